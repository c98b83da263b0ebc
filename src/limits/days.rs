//! Days, as the daily quota counts them: from midnight to midnight of a time zone, also where a day has 23 or 25 hours,
//! or begins at one o'clock.

use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::UnixSeconds;

/// The days of a time zone; the one of now is remembered.
#[derive(Debug)]
pub struct Days {
    zone: TimeZone,
    last: ArcSwap<Day>,
}

/// One day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Its date, as days since 1970.
    pub number: u32,
    /// Its first second.
    pub begins: UnixSeconds,
    /// The first second of the next.
    pub ends: UnixSeconds,
}

impl Days {
    /// Those of `zone`.
    pub fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            last: ArcSwap::default(),
        }
    }

    /// The day of `now`.
    pub fn at(&self, now: UnixSeconds) -> Day {
        let last = **self.last.load();
        if last.holds(now) {
            return last;
        }
        let day = day_of(&self.zone, now).unwrap_or_else(|_| Day::utc(now));
        self.last.store(day.into());
        day
    }

    /// The day before `day`, and the end of the day after it.
    pub fn around(&self, day: Day) -> (Day, Day) {
        let of = |now| day_of(&self.zone, now).unwrap_or_else(|_| Day::utc(now));
        (of(day.begins.saturating_sub(1)), of(day.ends))
    }
}

impl Day {
    /// Whether `now` is in it.
    pub fn holds(&self, now: UnixSeconds) -> bool {
        (self.begins..self.ends).contains(&now)
    }

    /// What is left of it.
    pub fn left(&self, now: UnixSeconds) -> Duration {
        Duration::from_secs(self.ends.saturating_sub(now))
    }

    /// A day of 24 hours, where the calendar knows none: beyond the year 9999.
    fn utc(now: UnixSeconds) -> Self {
        let number = now / DAY;
        Self {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            begins: number * DAY,
            ends: (number + 1) * DAY,
        }
    }
}

fn day_of(zone: &TimeZone, now: UnixSeconds) -> Result<Day, jiff::Error> {
    let now = Timestamp::from_second(i64::try_from(now).unwrap_or(i64::MAX))?;
    let now = now.to_zoned(zone.clone());
    let second = |at: jiff::Zoned| u64::try_from(at.timestamp().as_second()).unwrap_or(0);
    let date = now.date();
    let epoch = jiff::civil::date(1970, 1, 1);
    let number = epoch.until(date)?.get_days();
    Ok(Day {
        number: u32::try_from(number).unwrap_or(0),
        begins: second(now.start_of_day()?),
        ends: second(date.tomorrow()?.to_zoned(zone.clone())?.start_of_day()?),
    })
}

const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> UnixSeconds {
        let at: Timestamp = text.parse().unwrap();
        u64::try_from(at.as_second()).unwrap()
    }

    fn hours(zone: &str, at: &str) -> (String, u64) {
        let zone = TimeZone::get(zone).unwrap();
        let day = Days::new(zone.clone()).at(seconds(at));
        let begins = Timestamp::from_second(day.begins.try_into().unwrap()).unwrap();
        let begins = begins.to_zoned(zone).strftime("%F %T").to_string();
        (begins, (day.ends - day.begins) / 3600)
    }

    #[test]
    fn a_day_is_that_of_the_time_zone() {
        for (zone, at, begins, length) in [
            ("UTC", "2026-11-22T23:59:59Z", "2026-11-22 00:00:00", 24),
            (
                "Asia/Shanghai",
                "2026-11-22T16:00:00Z",
                "2026-11-23 00:00:00",
                24,
            ),
            (
                "Asia/Shanghai",
                "2026-11-22T15:59:59Z",
                "2026-11-22 00:00:00",
                24,
            ),
            // Clocks go forward, and back.
            (
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                "2026-03-29 00:00:00",
                23,
            ),
            (
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                "2026-10-25 00:00:00",
                25,
            ),
            // Clocks went forward at midnight: the day began at one.
            (
                "America/Sao_Paulo",
                "2018-11-04T12:00:00Z",
                "2018-11-04 01:00:00",
                23,
            ),
            // A whole day was left out.
            (
                "Pacific/Apia",
                "2011-12-30T09:59:59Z",
                "2011-12-29 00:00:00",
                24,
            ),
            (
                "Pacific/Apia",
                "2011-12-30T10:00:00Z",
                "2011-12-31 00:00:00",
                24,
            ),
        ] {
            assert_eq!(hours(zone, at), (begins.to_owned(), length), "{zone} {at}");
        }
    }

    #[test]
    fn the_next_day_has_another_number_and_begins_where_the_last_one_ended() {
        for zone in ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"] {
            let days = Days::new(TimeZone::get(zone).unwrap());
            let mut day = days.at(seconds("2009-12-31T12:00:00Z"));
            for _ in 0..4000 {
                let next = days.at(day.ends);
                assert_eq!(next.begins, day.ends, "{zone}");
                assert!(next.number > day.number, "{zone}");
                assert_eq!(days.at(day.ends - 1), day, "{zone}");
                assert_eq!(days.around(day).1, next, "{zone}");
                day = next;
            }
        }
    }

    #[test]
    fn a_clock_beyond_all_calendars_has_days_all_the_same() {
        let days = Days::new(TimeZone::UTC);
        for now in [0, 1, u64::MAX / 2] {
            assert!(days.at(now).holds(now), "{now}");
        }
    }
}
