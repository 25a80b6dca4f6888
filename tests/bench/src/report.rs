//! Puts measurements side by side: a table, and a drawing of cost against size.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Context, Result, ensure};

use crate::svg::{self, Panel};

/// What the SDK is compared with.
const YARDSTICK: &str = "C";
const SDK: &str = "SDK";
const NOTHING: &str = "a system call that does nothing";
/// What is promised: `OPERATION SIZE MOST PROGRAM`, separated by tabs. `MOST` is of
/// instructions or, where there is a program, so many times what that one costs.
const TARGETS: &str = include_str!("../targets");
const INSTRUCTIONS: &str = "instructions";
/// From so many sizes on, an operation is drawn.
const CURVE: usize = 3;

/// The costs of one operation: for each size, of each program.
#[derive(Debug)]
struct Operation {
    name: String,
    unit: String,
    costs: BTreeMap<u64, BTreeMap<String, f64>>,
}

/// Reads the measurements, prints the table and writes `DIRECTORY/cost.svg`.
pub(crate) fn report(unit: &str, directory: &Path) -> Result<()> {
    let operations = parse(&io::read_to_string(io::stdin())?)?;
    print_table(&operations, unit);
    print_growth(&operations);

    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let path = directory.join("cost.svg");
    let panels: Vec<_> = operations.iter().filter_map(|operation| panel(operation, unit)).collect();
    fs::write(&path, svg::draw(&panels)).with_context(|| path.display().to_string())?;
    println!("\ncost against size: {}", path.display());
    Ok(())
}

/// In the order in which the operations first appear. Other lines are skipped.
fn parse(text: &str) -> Result<Vec<Operation>> {
    let mut operations: Vec<Operation> = Vec::new();
    for line in text.lines() {
        let fields: Vec<_> = line.trim_end().split('\t').collect();
        let ["row", program, name, x, unit, cost] = fields[..] else {
            continue;
        };
        let x = x.parse().with_context(|| line.to_owned())?;
        let cost = cost.parse().with_context(|| line.to_owned())?;
        let at = operations.iter().position(|operation| operation.name == name);
        let at = at.unwrap_or_else(|| {
            let costs = BTreeMap::new();
            operations.push(Operation { name: name.into(), unit: unit.into(), costs });
            operations.len() - 1
        });
        operations[at].costs.entry(x).or_default().insert(program.into(), cost);
    }
    ensure!(!operations.is_empty(), "no measurement to report");
    Ok(operations)
}

fn print_table(operations: &[Operation], unit: &str) {
    let nothing = operations
        .iter()
        .find(|operation| operation.name == NOTHING)
        .and_then(|operation| operation.costs.get(&0)?.get(SDK).copied());
    println!(
        "| {unit} | size | {YARDSTICK} | {SDK} | {SDK} / {YARDSTICK} | do-nothing calls | target |"
    );
    println!("|---|--:|--:|--:|--:|--:|---|");
    for operation in operations {
        for (&x, costs) in &operation.costs {
            let size =
                if operation.unit.is_empty() { String::new() } else { size(x, &operation.unit) };
            let (c, sdk) = (costs.get(YARDSTICK).copied(), costs.get(SDK).copied());
            let by = |by: Option<f64>, text: fn(f64) -> String| {
                sdk.zip(by).map_or(String::new(), |(sdk, by)| text(sdk / by))
            };
            println!(
                "| {} | {size} | {} | {} | {} | {} | {} |",
                operation.name,
                c.map_or(String::new(), number),
                sdk.map_or(String::new(), number),
                by(c, |ratio| format!("{ratio:.3}")),
                by(nothing, number),
                targets(&operation.name, x, costs, unit),
            );
            for (program, cost) in costs {
                if program != YARDSTICK && program != SDK {
                    // Of what the crates do not do, C.
                    let against =
                        sdk.or(c).map_or(String::new(), |own| format!("{:.3}", own / cost));
                    println!("| … {program} | {size} | {} | | {against} | | |", number(*cost));
                }
            }
        }
    }
}

/// What is promised of an operation, and whether it is kept.
fn targets(name: &str, x: u64, costs: &BTreeMap<String, f64>, unit: &str) -> String {
    let Some(&cost) = costs.get(SDK).or(costs.get(YARDSTICK)) else { return String::new() };
    let mut texts = Vec::new();
    for line in TARGETS.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [operation, size, most, program] = fields[..] else { continue };
        if operation != name || size.parse() != Ok(x) {
            continue;
        }
        let Ok(most) = most.parse::<f64>() else { continue };
        let (limit, text) = match program {
            "" if unit == INSTRUCTIONS => (most, number(most)),
            "" => continue, // of another machine
            program => match costs.get(program) {
                // A target has two decimals; what is beyond three is noise.
                Some(other) => ((most + 0.0005) * other, format!("{most:.2} × {program}")),
                None => continue,
            },
        };
        texts.push(if cost <= limit { text } else { format!("**above** {text}") });
    }
    texts.join(", ")
}

/// Of what must not cost more where there is more of it: of one part, the more
/// parts, the more buffers, the larger the buffer or the offset; of one page.
fn print_growth(operations: &[Operation]) {
    println!("\n| must not grow | from | to | | first | last | grows at most by |");
    println!("|---|--:|--:|---|--:|--:|--:|");
    let is_of_one = |operation: &&Operation| {
        operation.name.starts_with("each ") || !matches!(&operation.unit[..], "" | "B")
    };
    for operation in operations.iter().filter(is_of_one) {
        let name = &operation.name;
        for (program, points) in series(operation).into_iter().filter(|(_, all)| all.len() >= CURVE)
        {
            let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
            let [from, to] = [first, last].map(|point| size(point.0, &operation.unit));
            let [first_cost, last_cost] = [first, last].map(|point| number(point.1));
            let growth = growth(points.iter().map(|point| point.1));
            println!(
                "| {name} | {from} | {to} | {program} | {first_cost} | {last_cost} | {growth:.3} |"
            );
        }
    }
}

/// How much more the worst costs than one before it.
fn growth(costs: impl Iterator<Item = f64>) -> f64 {
    let worst = |(least, growth): (f64, f64), cost: f64| {
        (least.min(cost), growth.max(cost / least.min(cost)))
    };
    costs.fold((f64::INFINITY, 1.0), worst).1
}

/// The points of each program.
fn series(operation: &Operation) -> BTreeMap<&str, Vec<(u64, f64)>> {
    let mut series: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (&x, costs) in &operation.costs {
        for (program, &cost) in costs {
            series.entry(program).or_default().push((x, cost));
        }
    }
    series
}

/// With as many digits as mean something.
fn number(cost: f64) -> String {
    if cost < 100.0 {
        format!("{cost:.1}")
    } else {
        let digits = format!("{cost:.0}");
        let mut text = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
        }
        text
    }
}

/// `64 KiB`, `16 parts`
pub(crate) fn size(x: u64, unit: &str) -> String {
    let Some(which) = unit.strip_prefix('B') else {
        return format!("{x} {unit}");
    };
    let (mut x, mut prefixes) = (x, ["", "Ki", "Mi", "Gi"].into_iter().peekable());
    let mut prefix = prefixes.next();
    while x >= 1024 && x % 1024 == 0 && prefixes.peek().is_some() {
        x /= 1024;
        prefix = prefixes.next();
    }
    format!("{x} {}B{which}", prefix.unwrap_or_default())
}

fn panel(operation: &Operation, unit: &str) -> Option<Panel> {
    if operation.costs.len() < CURVE {
        return None;
    }
    let points = |points: Vec<(u64, f64)>| points.into_iter().map(|(x, y)| (x as f64, y)).collect();
    Some(Panel {
        title: operation.name.clone(),
        x_unit: operation.unit.clone(),
        y_unit: unit.into(),
        series: series(operation)
            .into_iter()
            .map(|(name, all)| (name.into(), points(all)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{TARGETS, growth, number, parse, size, targets};

    #[test]
    fn targets_are_kept_or_marked() {
        let name = "hand over and take back by the module, non-coherent";
        let costs = |sdk, c| BTreeMap::from([("SDK".to_owned(), sdk), ("C".to_owned(), c)]);
        let of = |sdk, c, unit| targets(name, 64, &costs(sdk, c), unit);
        assert_eq!(of(1700.0, 1700.0, "instructions"), "1,700, 1.02 × C");
        assert_eq!(of(1701.0, 1000.0, "instructions"), "**above** 1,700, **above** 1.02 × C");
        assert_eq!(of(1701.0, 1700.0, "ns"), "1.02 × C");
        assert_eq!(of(10_201.0, 10_000.0, "ns"), "1.02 × C");
        assert_eq!(of(10_210.0, 10_000.0, "ns"), "**above** 1.02 × C");
        assert_eq!(targets(name, 65, &costs(1.0, 1.0), "ns"), "");
        for line in TARGETS.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            let [_, size, most, _] = fields[..] else { unreachable!("{line:?}") };
            assert!(size.parse::<u64>().is_ok() && most.parse::<f64>().is_ok(), "{line:?}");
        }
    }

    #[test]
    fn measurements_come_together() {
        let text = "noise\nrow\tC\tcopy\t64\tB\t1000.00\r\nrow\tSDK\tcopy\t64\tB\t990.50\n";
        let operations = parse(text).unwrap();
        assert_eq!(operations.len(), 1);
        let costs: Vec<_> = operations[0].costs[&64].values().copied().collect();
        assert_eq!(costs, [1000.0, 990.5]);
        assert!(parse("nothing of interest\n").is_err());
        assert!(parse("row\tC\tcopy\tmany\tB\t1\n").is_err());
    }

    #[test]
    fn growth_is_against_the_cheapest_before() {
        assert_eq!(growth([8.0, 4.0, 5.0, 6.0, 2.0].into_iter()), 1.5);
        assert_eq!(growth([8.0, 4.0, 2.0].into_iter()), 1.0);
    }

    #[test]
    fn figures_as_people_read_them() {
        assert_eq!(number(1.04), "1.0");
        assert_eq!(number(2156.2), "2,156");
        assert_eq!(number(123.0), "123");
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(size(64, "B"), "64 B");
        assert_eq!(size(1 << 20, "B"), "1 MiB");
        assert_eq!(size(5 << 30, "B"), "5 GiB");
        assert_eq!(size(4096 + 64, "B"), "4160 B");
        assert_eq!(size(16, "parts"), "16 parts");
        assert_eq!(size(2048, "B on"), "2 KiB on");
    }
}
