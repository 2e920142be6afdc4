//! A scenario on a terminal: groups, demand, what was decided and why, what happened.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, Wrap};

use super::demand::Asked;
use super::pace::{HOLD_MAX, Pace};
use super::play::{Frame, Screen};
use super::tally::Workers;
use super::timeline::{Kind, Line, seconds};
use crate::model::{ClusterSnapshot, Timestamp};

/// Pictures in a second; more are not seen.
const DRAW_EVERY: Duration = Duration::from_millis(80);

/// The terminal while a scenario is played; it is given back when this is dropped.
pub(super) struct Terminal {
    terminal: DefaultTerminal,
    pace: Pace,
    hints: Vec<String>,
    drawn: crate::clock::Stopwatch,
    is_drawn: bool,
}

impl Terminal {
    /// Takes the terminal; `hints` stand at its foot.
    pub(super) fn open(pace: Pace, hints: Vec<String>) -> io::Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init()?,
            pace,
            hints,
            drawn: crate::clock::Stopwatch::start(),
            is_drawn: false,
        })
    }
}

impl Screen for Terminal {
    fn show(&mut self, frame: &Frame<'_>) -> ControlFlow<()> {
        if !self.is_drawn || self.drawn.elapsed() >= DRAW_EVERY {
            self.drawn = crate::clock::Stopwatch::start();
            self.is_drawn = true;
            let hints = &self.hints;
            if self
                .terminal
                .draw(|picture| draw(picture, frame, hints))
                .is_err()
            {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn hold(&mut self, now: Timestamp) -> ControlFlow<(), bool> {
        let ahead = self.pace.ahead(now);
        let wait = ahead.min(HOLD_MAX);
        match event::poll(wait) {
            Ok(true) if event::read().is_ok_and(|event| is_leaving(&event)) => {
                return ControlFlow::Break(());
            }
            Ok(_) => {}
            // A terminal that cannot be read still shows what happens.
            Err(_) => std::thread::sleep(wait),
        }
        ControlFlow::Continue(ahead > HOLD_MAX)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn is_leaving(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

fn draw(picture: &mut ratatui::Frame<'_>, frame: &Frame<'_>, hints: &[String]) {
    let groups = u16::try_from(frame.groups.len()).unwrap_or(u16::MAX);
    let asked = u16::try_from(frame.asked.len()).unwrap_or(u16::MAX);
    let top_height = groups.max(asked).clamp(4, 10).saturating_add(3);
    let foot = u16::try_from(hints.len()).unwrap_or(u16::MAX);
    let [title, top, middle, bottom, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(top_height),
        Constraint::Percentage(35),
        Constraint::Fill(1),
        Constraint::Length(foot),
    ])
    .areas(picture.area());
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)]).areas(top);
    picture.render_widget(title_line(frame), title);
    draw_groups(picture, frame, left);
    draw_demand(picture, frame, right);
    let is_about = |kinds: &'static [Kind]| move |line: &&Line| kinds.contains(&line.kind);
    let decided = is_about(&[Kind::Scaled, Kind::Waits, Kind::Held]);
    draw_lines(picture, frame, (" decisions, and why ", middle), decided);
    let happened = is_about(&[Kind::Asked, Kind::Placed, Kind::Workers, Kind::Lost]);
    draw_lines(picture, frame, (" what happened ", bottom), happened);
    let hints: Vec<TextLine<'_>> = hints
        .iter()
        .map(|hint| hint.as_str().dim().into())
        .collect();
    picture.render_widget(Paragraph::new(hints), foot);
}

fn title_line<'a>(frame: &Frame<'a>) -> TextLine<'a> {
    let elapsed = seconds(frame.now.millis_since(frame.began_at));
    let of = frame
        .duration_ms
        .map_or_else(String::new, |ms| format!(" of {}", seconds(ms)));
    let tally = frame.tally;
    TextLine::from(vec![
        Span::from(" rayscaler sandbox ").bold().reversed(),
        Span::from(format!(" {}  {elapsed}{of}  ", frame.name)),
        Span::from(format!(
            "node-seconds: {} busy, {} idle, {} starting  ",
            tally.busy / 1000,
            tally.idle / 1000,
            tally.starting / 1000
        )),
        Span::from("q leaves").dim(),
    ])
}

fn draw_groups(picture: &mut ratatui::Frame<'_>, frame: &Frame<'_>, area: Rect) {
    let header = [
        "group", "replicas", "pending", "starting", "busy", "idle", "leaving",
    ];
    let rows = frame.groups.iter().map(|group| {
        let workers = frame.workers.get(&group.name).copied().unwrap_or_default();
        Row::new([
            group.name.clone(),
            format!("{} of {}", group.replicas, group.max),
            count(workers.pending),
            count(workers.starting),
            count(workers.busy),
            count(workers.idle),
            count(workers.leaving),
        ])
        .style(group_style(workers))
    });
    let widths = [
        Constraint::Min(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Length(7),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(header).add_modifier(Modifier::DIM))
        .block(Block::bordered().title(" worker groups "));
    picture.render_widget(table, area);
}

/// Zeros are not worth a look.
fn count(number: u64) -> String {
    if number == 0 {
        "·".to_owned()
    } else {
        number.to_string()
    }
}

const fn group_style(workers: Workers) -> Style {
    if workers.pending > 0 {
        Style::new().fg(Color::Yellow)
    } else if workers.busy > 0 {
        Style::new().fg(Color::Green)
    } else {
        Style::new()
    }
}

/// Shows what users asked for, and what of it the sidecar sees waiting.
fn draw_demand(picture: &mut ratatui::Frame<'_>, frame: &Frame<'_>, area: Rect) {
    let waiting = frame.snapshot.as_deref().map(waiting).unwrap_or_default();
    let waiting = waiting
        .into_iter()
        .map(|[what, count]| Row::new([what, count]).style(Style::new().fg(Color::Yellow)));
    let asked = frame.asked.iter().rev().filter(|asked| asked.is_demand);
    let asked =
        asked.map(|asked| Row::new([asked.name.clone(), state(asked, frame)]).style(style(asked)));
    let widths = [Constraint::Min(16), Constraint::Length(24)];
    let table = Table::new(waiting.chain(asked), widths)
        .header(
            Row::new(["waiting or asked for", "number or capacity"]).add_modifier(Modifier::DIM),
        )
        .block(Block::bordered().title(" demand "));
    picture.render_widget(table, area);
}

/// Returns what waits, by shape, as the sidecar sees it.
fn waiting(snapshot: &ClusterSnapshot) -> Vec<[String; 2]> {
    let tasks = snapshot
        .demands
        .iter()
        .filter(|demand| !demand.request.is_inside_placement_group())
        .map(|demand| {
            [
                demand.request.resources.to_string(),
                format!("{} waiting", demand.count),
            ]
        });
    let gangs = snapshot.gangs.iter().map(|gang| {
        let strategy = gang.details.split(':').nth(1).unwrap_or_default();
        let strategy = strategy.split('|').next().unwrap_or_default();
        [
            format!("placement group {strategy}"),
            format!("{} bundles waiting", gang.bundle_count),
        ]
    });
    tasks.chain(gangs).collect()
}

fn state(asked: &Asked, frame: &Frame<'_>) -> String {
    let waited = seconds(asked.waited_ms(frame.now));
    match asked.placed_at {
        Some(_) => format!("after {waited}"),
        None => format!("waits for {waited}"),
    }
}

const fn style(asked: &Asked) -> Style {
    if asked.placed_at.is_some() {
        Style::new().fg(Color::Green)
    } else {
        Style::new().fg(Color::Yellow)
    }
}

/// Shows the newest lines of a kind that there is room for, the newest last.
fn draw_lines(
    picture: &mut ratatui::Frame<'_>,
    frame: &Frame<'_>,
    (title, area): (&'static str, Rect),
    is_shown: impl Fn(&&Line) -> bool,
) {
    let room = usize::from(area.height.saturating_sub(2));
    let lines: Vec<&Line> = frame.timeline.lines().iter().filter(is_shown).collect();
    let shown = lines
        .get(lines.len().saturating_sub(room)..)
        .unwrap_or_default();
    let text: Vec<TextLine<'_>> = shown
        .iter()
        .map(|line| {
            let at = seconds(line.at.millis_since(frame.began_at));
            TextLine::from(vec![
                Span::from(format!("{at:>7} ")).dim(),
                Span::from(format!("{:<8}", line.kind.word())).style(kind_style(line.kind)),
                Span::from(line.text.as_str()),
            ])
        })
        .collect();
    let lines = Paragraph::new(text)
        .wrap(Wrap { trim: false })
        .block(Block::bordered().title(title));
    picture.render_widget(lines, area);
}

const fn kind_style(kind: Kind) -> Style {
    let colour = match kind {
        Kind::Asked => Color::Cyan,
        Kind::Placed => Color::Green,
        Kind::Scaled => Color::Blue,
        Kind::Waits | Kind::Held | Kind::Lost => Color::Yellow,
        Kind::Workers => Color::Gray,
    };
    Style::new().fg(colour)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ratatui::Terminal as Screen;
    use ratatui::backend::TestBackend;

    use super::super::play::{Frame, GroupSize};
    use super::super::tally::{Tally, Workers};
    use super::super::timeline::Timeline;
    use super::draw;
    use crate::model::Timestamp;

    #[test]
    fn one_picture_has_groups_demand_decisions_and_what_happened() {
        let group = |name: &str, replicas| GroupSize {
            name: name.to_owned(),
            replicas,
            max: 4,
        };
        let busy = Workers {
            busy: 2,
            starting: 1,
            ..Workers::default()
        };
        let workers = BTreeMap::from([("small".to_owned(), busy)]);
        let mut timeline = Timeline::default();
        timeline.asked(Timestamp::from_ms(1_000), "burst", "40 tasks");
        let frame = Frame {
            name: "a test",
            duration_ms: Some(75_000),
            groups: &[group("small", 3), group("large", 0)],
            began_at: Timestamp::from_ms(0),
            now: Timestamp::from_ms(2_000),
            asked: &[],
            workers: &workers,
            snapshot: None,
            timeline: &timeline,
            tally: &Tally::default(),
        };
        let mut screen = Screen::new(TestBackend::new(100, 30)).unwrap();
        let hints = ["a hint".to_owned()];
        screen
            .draw(|picture| draw(picture, &frame, &hints))
            .unwrap();
        let picture = screen.backend().to_string();
        for text in [
            "rayscaler sandbox  a test  2.0 s of 75.0 s",
            "replicas pending starting busy idle leaving",
            "1.0 s asked   burst: 40 tasks",
            "decisions, and why",
            "a hint",
        ] {
            assert!(picture.contains(text), "{text}\n{picture}");
        }
        let mut lines = picture.lines();
        let row = lines.find(|line| line.contains("small")).unwrap();
        let counts: Vec<&str> = row.split_whitespace().skip(1).take(8).collect();
        assert_eq!(
            counts[..7],
            ["3", "of", "4", "·", "1", "2", "·"],
            "{picture}"
        );
    }
}
