//! Events a second against the bound, as SVG.

use std::fmt::Write as _;

use crate::report::{Measured, Report};

const LEFT: f64 = 190.0;
const WIDTH: f64 = 560.0;
const BAR: f64 = 18.0;
const COLOURS: [&str; 2] = ["#3b6ea5", "#c98a2b"];

/// A bar for each scenario and program, and a mark where the bound is.
pub fn svg(report: &Report, programs: &[String]) -> String {
    let scenarios: Vec<_> = report.scenarios.iter().filter(|scenario| fastest(scenario, programs) > 0.0).collect();
    let longest = |scenario: &&Measured| fastest(scenario, programs).max(scenario.bound.unwrap_or(0.0));
    let scale = WIDTH / scenarios.iter().map(longest).fold(1.0, f64::max);
    let mut body = String::new();
    let mut y = 40.0;
    for scenario in scenarios {
        let top = y;
        text(&mut body, LEFT - 8.0, y + BAR * 0.75, "end", &scenario.name);
        for (program, colour) in programs.iter().zip(COLOURS.iter().cycle()) {
            let Some(figures) = scenario.medians.get(program) else { continue };
            let rate = figures.get("events_per_s").unwrap_or(0.0);
            let _ = writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y:.1}" width="{:.1}" height="{BAR}" fill="{colour}"/>"#,
                rate * scale
            );
            let share =
                figures.get("ratio_to_bound").map(|share| format!(" ({share:.2} of bound)")).unwrap_or_default();
            let end = rate.max(scenario.bound.unwrap_or(0.0));
            text(&mut body, LEFT + end * scale + 6.0, y + BAR * 0.75, "start", &format!("{rate:.0}{share}"));
            y += BAR + 2.0;
        }
        if let Some(bound) = scenario.bound {
            let x = LEFT + bound * scale;
            let _ = writeln!(
                body,
                r##"<line x1="{x:.1}" x2="{x:.1}" y1="{:.1}" y2="{y:.1}" stroke="#222" stroke-width="2"/>"##,
                top - 2.0
            );
        }
        y += 8.0;
    }
    let mut heading = String::new();
    let has_bounds = report.scenarios.iter().any(|scenario| scenario.bound.is_some());
    text(&mut heading, LEFT, 24.0, "start", if has_bounds { "events/s; the line is the bound" } else { "events/s" });
    for (number, (program, colour)) in programs.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let _ = writeln!(heading, r#"<rect x="8" y="{:.1}" width="10" height="10" fill="{colour}"/>"#, y + 4.0);
        text(&mut heading, 24.0, y + 13.0, "start", &format!("{}: {program}", number + 1));
        y += 18.0;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{:.0}" height="{:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
{heading}{body}</svg>
"#,
        LEFT + WIDTH + 150.0,
        y + 12.0
    )
}

fn fastest(scenario: &Measured, programs: &[String]) -> f64 {
    let rates = programs.iter().filter_map(|program| scenario.medians.get(program)?.get("events_per_s"));
    rates.fold(0.0, f64::max)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}
