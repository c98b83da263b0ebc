//! The calls about jobs.

use deadpool_postgres::Transaction;

use super::super::{Claim, JobNews, JobsPruned, Kept, StoreError};
use super::super::{rows, sql, values};
use super::query::{Failure, all, first, run};
use crate::records::{Job, JobKind};

type Wrote<T> = Result<T, Failure>;

pub(super) async fn put(transaction: &Transaction<'_>, news: JobNews) -> Wrote<Kept> {
    let JobNews {
        mut job, mut files, ..
    } = news;
    let mut added = None;
    if news.claim == Claim::Yes {
        let add = (sql::ADD_JOB, &values::add_job(&job, None)[..]);
        added = first(transaction, add, rows::added_job).await?;
    }
    let (number, job) = match added {
        Some((number, session)) => {
            job.owner.session = session;
            (number, job)
        }
        None => {
            let place = values::place(job.kind, &job.space, &job.job_id);
            let kept = first(transaction, (sql::LOCK_JOB, &place), rows::numbered_job).await?;
            match (kept, news.claim) {
                (None, Claim::No) => return Ok(Kept::Nobodys),
                // Deleted since: this is the first owner now.
                (None, Claim::Yes) => return Err(deleted()),
                (Some((_, kept)), _) if !kept.owner.is_user(&job.owner) => {
                    return Ok(Kept::Anothers);
                }
                (Some((number, kept)), _) => {
                    (number, update(transaction, (number, kept), job).await?)
                }
            }
        }
    };
    // In one order, so that two that name the same files do not wait for each other crosswise.
    files.sort_unstable();
    let mut lost = Vec::new();
    for name in files {
        let file = values::file(&job, &name);
        let add = values::add_job(&file, Some(number));
        let added = first(transaction, (sql::ADD_JOB, &add), rows::added_job).await?;
        if added.is_some() {
            continue;
        }
        let place = values::place(JobKind::File, &job.space, &name);
        let kept = first(transaction, (sql::JOB, &place), rows::job).await?;
        if !kept.is_some_and(|kept| kept.owner.is_user(&job.owner)) {
            lost.push(name);
        }
    }
    let job = Box::new(job);
    Ok(Kept::Mine { job, lost })
}

async fn update(
    transaction: &Transaction<'_>,
    (number, kept): (i64, Job),
    news: Job,
) -> Wrote<Job> {
    let Some(mut merged) = values::merged(&kept, news) else {
        return Ok(kept);
    };
    let write = (sql::WRITE_JOB, &values::write_job(number, &merged)[..]);
    let session = first(transaction, write, rows::maybe_session_id).await?;
    merged.owner.session = session.flatten();
    Ok(merged)
}

fn deleted() -> Failure {
    Failure::Conflict(StoreError::Unavailable(
        "the job was deleted meanwhile".into(),
    ))
}

pub(super) async fn prune(transaction: &Transaction<'_>, before: JobsPruned) -> Wrote<u64> {
    let mut pruned = 0;
    if let Some(before) = before.before {
        let values = [before.into(), MOST.into()];
        pruned += run(transaction, (sql::PRUNE_OLD_JOBS, &values)).await?;
    }
    if let Some(most) = before.most {
        let values = [most.into(), MOST.into()];
        let crowded = (sql::CROWDED_USERS, &values[..]);
        for (user, kind) in all(transaction, crowded, rows::user_and_job_kind).await? {
            let values = [user.into(), kind.word().into(), MOST.into(), most.into()];
            pruned += run(transaction, (sql::PRUNE_CROWD, &values)).await?;
        }
    }
    run(transaction, (sql::FORGET_GONE, &[before.forget.into()])).await?;
    Ok(pruned)
}

/// Rows of a kind at a time.
const MOST: u64 = 500;
