//! The calls about jobs, as they run within a transaction of the writer.

use rusqlite::Connection;

use super::super::{Claim, JobNews, JobsPruned, Kept, StoreError};
use super::super::{rows, sql, values};
use super::query::{all, first, run};
use super::writes::nothing;
use crate::records::{Job, JobKind, UserId};

pub(super) fn put(connection: &Connection, news: JobNews) -> Result<Kept, StoreError> {
    let JobNews { mut job, files, .. } = news;
    let place = values::place(job.kind, &job.space, &job.job_id);
    let kept = first(connection, (sql::JOB, &place), rows::numbered_job)?;
    let (number, job) = match (kept, news.claim) {
        (None, Claim::No) => return Ok(Kept::Nobodys),
        (None, Claim::Yes) => {
            let add = values::add_job(&job, None);
            let added = first(connection, (sql::ADD_JOB, &add), rows::added_job)?;
            let (number, session) = added.ok_or_else(nothing)?;
            job.owner.session = session;
            (number, job)
        }
        (Some((_, kept)), _) if !kept.owner.is_user(&job.owner) => return Ok(Kept::Anothers),
        (Some((number, kept)), _) => (number, update(connection, (number, kept), job)?),
    };
    let mut lost = Vec::new();
    for name in files {
        let file = values::file(&job, &name);
        let add = values::add_job(&file, Some(number));
        if first(connection, (sql::ADD_JOB, &add), rows::added_job)?.is_some() {
            continue;
        }
        let place = values::place(JobKind::File, &job.space, &name);
        let kept = first(connection, (sql::JOB, &place), rows::job)?;
        if !kept.is_some_and(|kept| kept.owner.is_user(&job.owner)) {
            lost.push(name);
        }
    }
    let job = Box::new(job);
    Ok(Kept::Mine { job, lost })
}

fn update(
    connection: &Connection,
    (number, kept): (i64, Job),
    news: Job,
) -> Result<Job, StoreError> {
    let Some(mut merged) = values::merged(&kept, news) else {
        return Ok(kept);
    };
    let write = values::write_job(number, &merged);
    let session = first(connection, (sql::WRITE_JOB, &write), rows::maybe_session_id)?;
    merged.owner.session = session.flatten();
    Ok(merged)
}

/// Who has more jobs than stay; looked for by a reader, because it goes through all.
pub(super) fn crowded(
    connection: &Connection,
    before: JobsPruned,
) -> Result<Vec<(UserId, JobKind)>, StoreError> {
    let Some(most) = before.most else {
        return Ok(Vec::new());
    };
    let values = [most.into(), MOST.into()];
    all(
        connection,
        (sql::CROWDED_USERS, &values),
        rows::user_and_job_kind,
    )
}

pub(super) fn prune(
    connection: &Connection,
    before: JobsPruned,
    crowded: Vec<(UserId, JobKind)>,
) -> Result<u64, StoreError> {
    let mut pruned = 0;
    if let Some(before) = before.before {
        let values = [before.into(), MOST.into()];
        pruned += run(connection, (sql::PRUNE_OLD_JOBS, &values))?;
    }
    for (user, kind) in crowded {
        let most = before.most.unwrap_or(u64::MAX);
        let values = [user.into(), kind.word().into(), MOST.into(), most.into()];
        pruned += run(connection, (sql::PRUNE_CROWD, &values))?;
    }
    run(connection, (sql::FORGET_GONE, &[before.forget.into()]))?;
    Ok(pruned)
}

/// Rows of a kind at a time: a few milliseconds for the writer.
const MOST: u64 = 500;
