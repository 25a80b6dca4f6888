//! Curves of cost against size, both logarithmic, as an SVG.

use std::fmt::Write;

use crate::report::size;

const COLUMNS: usize = 2;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
/// Around the axes of a panel: for the title, the labels, the names.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 55.0;
const COLOURS: [&str; 4] = ["#1f6feb", "#d1521f", "#2a8a3e", "#7a4fbf"];

/// One pair of axes.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x_unit: String,
    pub(crate) y_unit: String,
    /// Names, and points from left to right; neither coordinate below 1 shows.
    pub(crate) series: Vec<(String, Vec<(f64, f64)>)>,
}

/// All panels in one drawing.
pub(crate) fn draw(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = ((i % COLUMNS) as f64 * WIDTH, (i / COLUMNS) as f64 * HEIGHT);
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", draw_panel(panel));
    }
    svg + "</svg>\n"
}

fn draw_panel(panel: &Panel) -> String {
    let points = || panel.series.iter().flat_map(|(_, points)| points);
    let x_axis = Axis::new(points().map(|point| point.0), 2.0, LEFT, WIDTH - RIGHT);
    let y_axis = Axis::new(points().map(|point| point.1), 10.0, HEIGHT - BOTTOM, TOP);
    let mut svg = String::new();
    let mut put = |line: String| {
        svg += &line;
        svg.push('\n');
    };

    put(text(WIDTH / 2.0, TOP - 12.0, "middle", &panel.title));
    put(text(LEFT, TOP - 12.0, "end", &panel.y_unit));
    for value in y_axis.ticks(6) {
        let y = y_axis.place(value);
        put(line(LEFT, y, WIDTH - RIGHT, y));
        put(text(LEFT - 6.0, y + 4.0, "end", &format!("{value}")));
    }
    for value in x_axis.ticks(7) {
        let x = x_axis.place(value);
        put(line(x, TOP, x, HEIGHT - BOTTOM));
        #[allow(clippy::cast_possible_truncation, reason = "ticks are powers of two below 2^64")]
        let label = size(value as u64, &panel.x_unit);
        put(text(x, HEIGHT - BOTTOM + 15.0, "middle", &label));
    }
    for (i, (name, points)) in panel.series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let places: Vec<_> =
            points.iter().map(|&(x, y)| (x_axis.place(x), y_axis.place(y))).collect();
        let path: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        put(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            path.join(" ")
        ));
        for (x, y) in places {
            put(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"));
        }
        let (x, y) = (LEFT + 100.0 * i as f64, HEIGHT - 18.0);
        put(format!("<circle cx=\"{x}\" cy=\"{}\" r=\"4\" fill=\"{colour}\"/>", y - 4.0));
        put(text(x + 9.0, y, "start", name));
    }
    svg
}

/// A logarithmic axis from `from` to `to` on the drawing.
struct Axis {
    base: f64,
    /// Exponents of the base at both ends.
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, base: f64, from: f64, to: f64) -> Self {
        let (least, most) = values
            .map(|value| value.max(1.0).log(base))
            .fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), exponent| {
                (least.min(exponent), most.max(exponent))
            });
        let least = least.floor().min(most);
        Self { base, least, most: most.ceil().max(least + 1.0), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(1.0).log(self.base) - self.least) / (self.most - self.least);
        self.from + share * (self.to - self.from)
    }

    /// Powers of the base, at most about `count` of them.
    fn ticks(&self, count: usize) -> impl Iterator<Item = f64> {
        #[allow(clippy::cast_possible_truncation, reason = "exponents of a 64-bit number")]
        let (least, most) = (self.least as i32, self.most as i32);
        let step = ((self.most - self.least) / count as f64).ceil();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive difference of such exponents"
        )]
        let step = step.max(1.0) as usize;
        let base = self.base;
        (least..=most).step_by(step).map(move |exponent| base.powi(exponent))
    }
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>")
}

#[cfg(test)]
mod tests {
    use super::Axis;

    #[test]
    fn an_axis_holds_its_values() {
        let axis = Axis::new([64.0, 1e6].into_iter(), 2.0, 0.0, 100.0);
        assert_eq!(axis.place(64.0), 0.0);
        assert_eq!(axis.place(f64::from(1 << 20)), 100.0);
        assert_eq!(
            axis.ticks(7).collect::<Vec<_>>(),
            [6, 8, 10, 12, 14, 16, 18, 20].map(|e| 2_f64.powi(e))
        );
        // One value, and none above 1, still make an axis.
        for values in [vec![5.0], vec![0.5], vec![]] {
            let axis = Axis::new(values.into_iter(), 10.0, 0.0, 100.0);
            assert!(axis.place(5.0).is_finite() && axis.ticks(5).count() >= 1);
        }
    }
}
