//! Time stamps: two seconds fine, from 1980 to 2107, taken as UTC.

use crate::volume::Timestamp;

/// 1980-01-01 in seconds since 1970.
const FIRST: i64 = 315_532_800;
/// 2107-12-31 23:59:58.
const LAST: i64 = 4_354_819_198;

/// Date and time words of `time`, held within what FAT can express.
pub fn stored(time: Timestamp) -> (u16, u16) {
    let seconds = time.seconds.clamp(FIRST, LAST);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date: Hinnant, "chrono-compatible low-level date algorithms".
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = ((year - 1980) << 9) | (month << 5) | day;
    let clock = ((rest / 3600) << 11) | ((rest % 3600 / 60) << 5) | (rest % 60 / 2);
    (date as u16, clock as u16)
}

/// The time that a date and a time word stand for; nonsense is 1980-01-01.
pub fn shown(date: u16, clock: u16) -> Timestamp {
    let (year, month, day) = (
        i64::from(date >> 9) + 1980,
        i64::from(date >> 5 & 15),
        i64::from(date & 31),
    );
    if !(1..=12).contains(&month) || day == 0 {
        return Timestamp {
            seconds: FIRST,
            nanoseconds: 0,
        };
    }
    let shifted_year = year - i64::from(month <= 2);
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let clock =
        i64::from(clock >> 11) * 3600 + i64::from(clock >> 5 & 63) * 60 + i64::from(clock & 31) * 2;
    Timestamp {
        seconds: days * 86_400 + clock,
        nanoseconds: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_seconds_come_back() {
        for seconds in [
            FIRST,
            LAST,
            951_782_400,
            1_760_000_000,
            1_709_164_798,
            4_107_542_400,
        ] {
            let time = Timestamp {
                seconds,
                nanoseconds: 0,
            };
            let (date, clock) = stored(time);
            assert_eq!(shown(date, clock), time);
        }
        // 2025-10-09 08:53:20
        let time = Timestamp {
            seconds: 1_760_000_000,
            nanoseconds: 0,
        };
        assert_eq!(
            stored(time),
            ((45 * 16 + 10) * 32 + 9, (8 * 64 + 53) * 32 + 10)
        );
        assert_eq!(stored(Timestamp::default()).0, 1 << 5 | 1);
    }
}
