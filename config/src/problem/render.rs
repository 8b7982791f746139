//! How does a problem look beside the line it is about?
//!
//! Never shows more than that line: a value may span many, and a file may be one long one.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Problem, Severity};

pub(super) fn render(problems: &[Problem], text: &str, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let rendered: Vec<_> = problems.iter().map(|problem| render_one(problem, text, &renderer)).collect();
    rendered.join("\n\n")
}

fn render_one(problem: &Problem, text: &str, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = match problem.key.as_str() {
        "" => problem.cause.clone(),
        key => format!("{key}: {}", problem.cause),
    };
    let (start, end) = (problem.span.start, problem.span.end);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let span = start - line_start..end.clamp(start, line_end) - line_start;
    let snippet = Snippet::source(&text[line_start..line_end])
        .path(problem.file.as_str())
        .line_start(problem.line as usize)
        .annotation(AnnotationKind::Primary.span(span));
    let mut group = level.primary_title(title).element(snippet);
    if let Some(suggestion) = &problem.suggestion {
        group = group.element(Level::HELP.message(suggestion.as_str()));
    }
    renderer.render(&[group])
}
