//! The explanation of a demand as people read it.

use super::launch::{Fate, Launch};
use super::verdict::Verdict;
use crate::cli::codes;
use crate::cli::columns::columns;
use crate::cli::paint::{Colour, Paint};

/// Returns the whole text.
pub(super) fn text(launch: &Launch, paint: Paint) -> String {
    let (colour, answer) = answer(launch);
    let what = format!("{} x {}", launch.count, launch.request);
    let mut lines = vec![format!(
        "{}: {}",
        paint.text(Colour::Bold, &what),
        paint.text(colour, &answer)
    )];
    for hold in &launch.holds {
        lines.push(format!(
            "hold of everything, {}: {}",
            hold.code, hold.detail
        ));
    }
    if launch.pending > 0 {
        lines.push(format!("Ray waits for {} of it now", launch.pending));
    }
    lines.push(room(launch));
    for unserved in &launch.unserved {
        let why = codes::unserved(&unserved.code);
        let code = &unserved.code;
        lines.push(format!("no place for {}, {code}: {why}", unserved.count));
    }
    let stuck = &launch.unschedulable;
    if stuck.requests > 0 {
        let (count, why) = (stuck.requests, stuck.text());
        lines.push(format!("no place for {count}, unschedulable: {why}"));
    }
    lines.push(String::new());
    let row = |verdict: &Verdict| {
        vec![
            verdict.group.clone(),
            verdict.code.clone(),
            verdict.detail.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = launch.groups.iter().map(row).collect();
    let mut table = columns("", &["<GROUP", "<ANSWER", "<WHY"], &rows).into_iter();
    lines.extend(table.next().map(|line| paint.text(Colour::Bold, &line)));
    lines.extend(table);
    lines.push(String::new());
    lines.join("\n")
}

fn answer(launch: &Launch) -> (Colour, String) {
    let missing: u64 = launch.unserved.iter().map(|it| it.count).sum();
    match launch.fate {
        Fate::Held => (Colour::Red, "nothing is decided".to_owned()),
        Fate::FitsNow => (Colour::Green, "fits on nodes that run".to_owned()),
        Fate::FitsStarting => (
            Colour::Green,
            "fits on nodes that run or are on their way".to_owned(),
        ),
        Fate::Unschedulable => {
            let stuck = launch.unschedulable.requests;
            let what = if stuck < launch.count {
                format!("{stuck} of {}", launch.count)
            } else {
                "it".to_owned()
            };
            let text = format!("no place for {what} but on pods that cannot be scheduled");
            (Colour::Yellow, text)
        }
        Fate::Launches => {
            let groups = launch.launches.iter();
            let groups: Vec<String> = groups
                .map(|it| format!("group {} grows {} -> {}", it.group, it.from, it.to))
                .collect();
            (Colour::Green, groups.join(", "))
        }
        Fate::NoPlace if missing < launch.count => {
            let text = format!("no place for {missing} of {}", launch.count);
            (Colour::Yellow, text)
        }
        Fate::NoPlace => (Colour::Red, "no place for it".to_owned()),
    }
}

fn room(launch: &Launch) -> String {
    match (launch.room.nodes, launch.room.requests) {
        (0, _) => "no running node has room for one".to_owned(),
        (nodes, u64::MAX) => format!("{nodes} running nodes have room for any number"),
        (1, requests) => format!("1 running node has room for {requests}"),
        (nodes, requests) => format!("{nodes} running nodes have room for {requests}"),
    }
}
