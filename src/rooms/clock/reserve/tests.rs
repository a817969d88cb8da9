use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const NOON: u64 = 1_790_000_000_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// A machine: its wall clock, how long it runs, and what is on its flash.
struct Machine {
    wall: u64,
    start: Instant,
    up: u64,
    file: Option<Timestamp>,
    writes: usize,
    clock: Clock,
    reserve: Reserve,
}

impl Machine {
    fn boot(wall: u64, file: Option<Timestamp>) -> Self {
        let start = Instant::now();
        let mut clock = Clock::new(at(wall));
        let mut reserve = Reserve::new(file, &mut clock, at(wall), start);
        let file = Some(reserve.begin(&clock, at(wall)));
        Machine { wall, start, up: 0, file, writes: 0, clock, reserve }
    }

    /// Power is gone, and comes back.
    fn reboot(self, wall: u64) -> Self {
        Machine::boot(wall, self.file)
    }

    fn end(&mut self) {
        if let Some(until) = self.reserve.end(&self.clock, at(self.wall)) {
            self.file = Some(until);
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.up)
    }

    fn pass(&mut self, ms: u64) {
        self.up += ms;
        self.wall += ms;
    }

    fn say(&mut self) -> Timestamp {
        let time = self.clock.tick(at(self.wall));
        self.keep();
        time
    }

    fn hear(&mut self, ms: u64) {
        self.reserve.told(Timestamp::from_ms(ms), at(self.wall));
        self.clock.follow(Timestamp::from_ms(ms), at(self.wall), self.reserve.is_doubtful());
        self.keep();
    }

    /// From somebody further away.
    fn hear_of(&mut self, ms: u64) {
        self.clock.follow(Timestamp::from_ms(ms), at(self.wall), false);
        self.keep();
    }

    fn keep(&mut self) {
        let now = self.now();
        if let Some(until) = self.reserve.wanted(&self.clock, at(self.wall), now) {
            self.file = Some(until);
            self.writes += 1;
        }
        if self.reserve.is_carried_away(&self.clock, at(self.wall)) {
            self.clock.go_back(at(self.wall));
        }
    }
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

#[test]
fn a_power_cut_and_a_clock_in_1970_do_not_set_it_back() {
    for wall in [0, 1_740_000_000_000, NOON - 5 * 60_000] {
        let mut machine = Machine::boot(NOON, None);
        machine.pass(HOUR);
        let last = machine.say();
        let mut machine = machine.reboot(wall);
        let first = machine.say();
        assert!(first > last, "{first} after {last}");
        assert!(first.ms() <= last.ms() + limits::CLOCK_RESERVE.as_millis() as u64);
        assert!(machine.say() > first);
    }
}

#[test]
fn after_a_clean_end_it_goes_on_where_it_was() {
    let mut machine = Machine::boot(NOON, None);
    machine.pass(HOUR);
    let last = machine.say();
    machine.end();
    let goodbye = machine.clock.tick(at(machine.wall));
    let first = machine.reboot(0).say();
    assert!(first > goodbye && first.ms() <= last.ms() + 1000, "{first} after {last}");
}

#[test]
fn a_machine_that_dies_at_once_stays_where_it_is() {
    let mut machine = Machine::boot(NOON, None);
    let first = machine.say();
    for _ in 0..1000 {
        machine = machine.reboot(0);
        machine.say();
    }
    assert!(machine.say().ms() < first.ms() + limits::CLOCK_RESERVE.as_millis() as u64 + 1_002_000);
}

#[test]
fn a_day_costs_five_writes() {
    let mut machine = Machine::boot(NOON, None);
    for _ in 0..10 * 24 * 60 {
        machine.pass(60_000);
        machine.say();
    }
    assert!((35..=50).contains(&machine.writes), "{} writes in 10 days", machine.writes);
}

#[test]
fn a_clock_that_comes_right_at_boot_is_written_at_once() {
    let mut machine = Machine::boot(1_000, None);
    machine.say();
    machine.hear(NOON);
    let followed = machine.say();
    assert!(machine.file > Some(followed), "a power cut may come at any time");
    machine.wall = NOON + 20_000;
    let set = machine.say();
    assert!(machine.file > Some(set) && machine.writes <= 2, "{} writes", machine.writes);
}

#[test]
fn those_who_drive_the_clock_do_not_drive_the_flash() {
    let mut machine = Machine::boot(1_000, None);
    for n in 0..10_000 {
        machine.hear(NOON + n * DAY);
        machine.pass(10_000);
        machine.say();
    }
    let days = 10_000 * 10_000 / DAY;
    assert!(machine.writes as u64 <= u64::from(limits::CLOCK_SAVES) + 5 * (days + 1), "{}", machine.writes);
}

#[test]
fn a_machine_that_was_in_the_future_comes_back() {
    // It boots ten years ahead, and NTP comes later.
    let mut machine = Machine::boot(NOON + 10 * YEAR, None);
    let ahead = machine.say();
    assert!(machine.file > Some(ahead));
    machine.wall = NOON;
    assert!(machine.say() > ahead, "what was to be said has its time already");
    assert_eq!(machine.say().ms(), NOON);
    let mut machine = machine.reboot(0);
    let back = machine.say().ms();
    assert!((NOON..NOON + DAY).contains(&back), "{back}");
}

#[test]
fn it_comes_back_too_where_a_neighbour_knows_better() {
    let ahead = Timestamp::from_ms(NOON + 10 * YEAR);
    let mut machine = Machine::boot(NOON, Some(ahead));
    assert!(machine.say() > ahead, "there is nobody to ask");
    machine.hear(NOON - 60_000);
    assert_eq!(machine.say().ms(), NOON);
    assert!(machine.reboot(NOON).say().ms() < NOON + DAY);
}

#[test]
fn a_clock_in_the_last_build_year_is_no_reason_to_go_back() {
    let mut machine = Machine::boot(NOON, None);
    let last = machine.say();
    let mut machine = machine.reboot(NOON - YEAR);
    for _ in 0..100 {
        machine.pass(HOUR);
        assert!(machine.say() > last);
    }
    assert!(machine.reboot(NOON - YEAR).say() > last);
}

#[test]
fn a_first_boot_in_the_build_year_goes_by_a_neighbour() {
    let mut machine = Machine::boot(NOON - YEAR, None);
    machine.hear_of(NOON);
    assert!(machine.say().ms() < NOON, "anybody can hand on what anybody has signed");
    machine.hear(NOON);
    let followed = machine.say();
    assert_eq!(followed.ms(), NOON);
    // Its clock is set.
    machine.wall = NOON + 20_000;
    assert_eq!(machine.say().ms(), NOON + 20_000);
    machine.hear(NOON + YEAR);
    assert!(machine.say().ms() < NOON + DAY);
}

#[test]
fn a_router_that_was_off_for_long_goes_by_a_neighbour() {
    let mut machine = Machine::boot(NOON - YEAR, None);
    machine.say();
    let mut machine = machine.reboot(NOON - YEAR);
    machine.hear(NOON);
    assert_eq!(machine.say().ms(), NOON);
}

#[test]
fn a_clock_that_somebody_agrees_with_is_not_carried_away_by_somebody_else() {
    let mut machine = Machine::boot(NOON, None);
    machine.hear(NOON - 60_000);
    machine.hear(NOON + YEAR);
    machine.hear(NOON + YEAR + 1);
    assert_eq!(machine.say().ms(), NOON);

    // Nor is one that went on while the machine was off.
    machine.pass(DAY);
    let wall = machine.wall + YEAR;
    let mut machine = machine.reboot(wall);
    machine.hear(wall + YEAR);
    assert_eq!(machine.say().ms(), wall);
}

#[test]
fn who_was_carried_away_at_first_comes_back_when_somebody_else_speaks() {
    let mut machine = Machine::boot(NOON, None);
    machine.hear(NOON + YEAR);
    assert_eq!(machine.say().ms(), NOON + YEAR);
    machine.hear(NOON + 60_000);
    assert!((NOON..NOON + 60_002).contains(&machine.say().ms()));
    assert!(machine.reboot(NOON).say().ms() < NOON + DAY);
}

#[test]
fn a_file_is_read_as_it_was_written_and_nonsense_is_not() {
    let time = Timestamp::from_bits((NOON << 16) + 77);
    let read = from_text(&to_text(time)).expect("a time");
    assert!(read > time && read.ms() == NOON + 1);
    for text in ["", "1790000000000", "# warren clock 2\n1790000000000\n", "# warren clock 1\nsoon\n"] {
        assert_eq!(from_text(text), None, "{text}");
    }
    assert_eq!(from_text(&format!("{HEADER}\n{}\n", u64::MAX >> 16)), None, "nobody comes back from there");
}

proptest! {
    #[test]
    fn it_never_runs_backwards_over_power_cuts(
        steps in proptest::collection::vec((0u64..4, 0..3 * HOUR, prop::sample::select(vec![0, NOON - YEAR, NOON])), 1..60),
    ) {
        let mut machine = Machine::boot(NOON, None);
        let mut last = machine.say();
        for (what, ms, wall) in steps {
            match what {
                0 => machine = machine.reboot(wall),
                1 => machine.hear(machine.clock.latest().ms() + ms / 100),
                2 => {
                    machine.end();
                    machine = machine.reboot(wall);
                }
                _ => machine.pass(ms),
            }
            let time = machine.say();
            prop_assert!(time > last);
            last = time;
        }
    }

    #[test]
    fn any_text_is_read(text: String) {
        let _ = (from_text(&text), from_text(&format!("{HEADER}\n{text}")));
    }
}
