//! Template validation on the syntax tree: allowed statements, operators and filters; when a config
//! is written, also whether the names exist.

use minijinja::Error;
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, ForLoop, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use yaml::{list_names, suggest_name};

use super::environment::{TEMPLATE_FILTERS, TEMPLATE_TESTS};

/// Fields of an event in templates.
const EVENT_FIELDS: [&str; 6] = ["_id", "name", "params", "author", "time_created", "task_id"];

/// Names available to a config's templates.
#[derive(Debug, Clone, Default)]
pub(in crate::configs) struct EventTemplateNames<'n> {
    /// Event names of the join by trigger; `None` for a config with a single event.
    pub(in crate::configs) join_events: Option<Vec<&'n str>>,
}

/// `Err`: the reason for the rejection.
type TemplateCheckResult = Result<(), String>;

/// Rejects invalid syntax, and operations that amplify output.
pub(super) fn check_syntax(text: &str) -> TemplateCheckResult {
    walk_template(text, None)
}

/// Like [`check_syntax`], and checks that all names exist.
pub(super) fn check_names(text: &str, names: &EventTemplateNames<'_>) -> TemplateCheckResult {
    walk_template(text, Some(names))
}

fn walk_template(text: &str, names: Option<&EventTemplateNames<'_>>) -> TemplateCheckResult {
    let parsed = parse(text, "template", SyntaxConfig::default())
        .map_err(|error: Error| super::explain_error(&error))?;
    EventTemplateChecker { names, locals: Vec::new() }.check_statement(&parsed)
}

struct EventTemplateChecker<'w> {
    names: Option<&'w EventTemplateNames<'w>>,
    /// Loop variables in scope.
    locals: Vec<String>,
}

impl EventTemplateChecker<'_> {
    fn check_statements(&mut self, all: &[Stmt<'_>]) -> TemplateCheckResult {
        all.iter().try_for_each(|statement| self.check_statement(statement))
    }

    fn check_statement(&mut self, statement: &Stmt<'_>) -> TemplateCheckResult {
        match statement {
            Stmt::Template(template) => self.check_statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.check_expression(&emit.expr),
            Stmt::IfCond(cond) => {
                self.check_expression(&cond.expr)?;
                self.check_statements(&cond.true_body)?;
                self.check_statements(&cond.false_body)
            }
            Stmt::ForLoop(each) => self.check_loop(each),
            Stmt::WithBlock(_) => Err(forbidden_statement("with")),
            Stmt::Set(_) | Stmt::SetBlock(_) => Err(forbidden_statement("set")),
            Stmt::AutoEscape(_) => Err(forbidden_statement("autoescape")),
            Stmt::FilterBlock(_) => Err(forbidden_statement("filter")),
            Stmt::Do(_) => Err(forbidden_statement("do")),
        }
    }

    fn check_loop(&mut self, each: &ForLoop<'_>) -> TemplateCheckResult {
        self.check_expression(&each.iter)?;
        let outside = self.locals.len();
        self.bind_target(&each.target);
        self.locals.push("loop".to_owned());
        let inside = match &each.filter_expr {
            Some(filter) => self.check_expression(filter),
            None => Ok(()),
        };
        let inside = inside.and_then(|()| self.check_statements(&each.body));
        self.locals.truncate(outside);
        inside?;
        self.check_statements(&each.else_body)
    }

    fn bind_target(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(var) => self.locals.push(var.id.to_owned()),
            Expr::List(list) => list.items.iter().for_each(|item| self.bind_target(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.bind_target(item)),
            _ => {}
        }
    }

    fn check_expressions<'e, 's: 'e>(
        &mut self,
        mut all: impl Iterator<Item = &'e Expr<'s>>,
    ) -> TemplateCheckResult {
        all.try_for_each(|expression| self.check_expression(expression))
    }

    fn check_expression(&mut self, expression: &Expr<'_>) -> TemplateCheckResult {
        match expression {
            Expr::Var(var) => self.check_variable(var.id),
            Expr::Const(_) => Ok(()),
            Expr::Slice(slice) => {
                let bounds = [&slice.start, &slice.stop, &slice.step].into_iter().flatten();
                self.check_expressions(std::iter::once(&slice.expr).chain(bounds))
            }
            Expr::UnaryOp(operation) => self.check_expression(&operation.expr),
            Expr::BinOp(operation) => {
                // Amplifies output.
                if matches!(operation.op, BinOpKind::Mul | BinOpKind::Pow) {
                    return Err("`*` is not available in the expressions of templates".to_owned());
                }
                self.check_expressions([&operation.left, &operation.right].into_iter())
            }
            Expr::Compare(compare) => self.check_expressions(
                std::iter::once(&compare.expr).chain(compare.ops.iter().map(|op| &op.expr)),
            ),
            Expr::IfExpr(choice) => self.check_expressions(
                [&choice.test_expr, &choice.true_expr].into_iter().chain(&choice.false_expr),
            ),
            Expr::Filter(filter) => self.check_filter(filter),
            Expr::Test(test) => {
                self.check_known_name("test", test.name, &TEMPLATE_TESTS)?;
                self.check_expression(&test.expr)?;
                self.check_arguments(&test.args)
            }
            Expr::GetAttr(get) => {
                self.check_expression(&get.expr)?;
                self.check_member(&get.expr, get.name)
            }
            Expr::GetItem(get) => {
                self.check_expressions([&get.expr, &get.subscript_expr].into_iter())?;
                self.check_item(&get.expr, &get.subscript_expr)
            }
            Expr::Call(call) => self.check_call(call),
            Expr::List(list) => self.check_expressions(list.items.iter()),
            Expr::Tuple(tuple) => self.check_expressions(tuple.items.iter()),
            Expr::Map(map) => self.check_expressions(map.keys.iter().chain(&map.values)),
        }
    }

    fn check_filter(&mut self, filter: &Filter<'_>) -> TemplateCheckResult {
        self.check_known_name("filter", filter.name, &TEMPLATE_FILTERS)?;
        if filter.name == "tojson" && !filter.args.is_empty() {
            return Err("`tojson` takes no arguments in templates".to_owned());
        }
        self.check_expressions(filter.expr.iter())?;
        self.check_arguments(&filter.args)
    }

    fn check_arguments(&mut self, arguments: &[CallArg<'_>]) -> TemplateCheckResult {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.check_expression(value),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                Err("`*` is not available in the expressions of templates".to_owned())
            }
        })
    }

    /// Only methods of `loop` can be called.
    fn check_call(&mut self, call: &Call<'_>) -> TemplateCheckResult {
        let name = match &call.expr {
            Expr::GetAttr(get) => {
                if matches!(&get.expr, Expr::Var(var) if var.id == "loop" && self.is_local("loop"))
                {
                    return self.check_arguments(&call.args);
                }
                get.name
            }
            Expr::Var(var) => var.id,
            _ => "",
        };
        if self.names.is_none() {
            self.check_expression(&call.expr)?;
            return self.check_arguments(&call.args);
        }
        let near =
            suggest_name(name, TEMPLATE_FILTERS).replace("did you mean", "did you mean the filter");
        Err(format!("there is no function `{name}` in templates{near}"))
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|local| local == name)
    }

    fn check_variable(&self, name: &str) -> TemplateCheckResult {
        let Some(names) = self.names.filter(|_| !self.is_local(name)) else { return Ok(()) };
        let known = ["event"].into_iter().chain(names.join_events.is_some().then_some("events"));
        if known.clone().any(|known| known == name) {
            return Ok(());
        }
        let why = if name == "events" { " (only a config with several events has it)" } else { "" };
        let locals = self.locals.iter().map(String::as_str);
        let near = suggest_name(name, known.clone().chain(locals));
        Err(format!("there is no variable `{name}`{why}{near} (known: {})", list_names(known)))
    }

    fn check_known_name(&self, what: &str, name: &str, known: &[&str]) -> TemplateCheckResult {
        if self.names.is_none() || known.contains(&name) {
            return Ok(());
        }
        let near = suggest_name(name, known.iter().copied());
        Err(format!(
            "there is no {what} `{name}` in templates{near} (known: {})",
            list_names(known.iter().copied())
        ))
    }

    fn is_global(&self, expression: &Expr<'_>, name: &str) -> bool {
        matches!(expression, Expr::Var(var) if var.id == name && !self.is_local(name))
    }

    /// Whether an expression is statically known to be an event.
    fn is_event(&self, expression: &Expr<'_>) -> bool {
        match expression {
            Expr::GetAttr(get) => self.is_global(&get.expr, "events"),
            Expr::GetItem(get) => self.is_global(&get.expr, "events"),
            other => self.is_global(other, "event"),
        }
    }

    fn check_member(&self, of: &Expr<'_>, name: &str) -> TemplateCheckResult {
        let Some(names) = self.names else { return Ok(()) };
        if self.is_event(of) && !EVENT_FIELDS.contains(&name) {
            return Err(format!(
                "an event has no `{name}`{} (known: {})",
                suggest_name(name, EVENT_FIELDS),
                list_names(EVENT_FIELDS)
            ));
        }
        let joined = names.join_events.as_deref().filter(|_| self.is_global(of, "events"));
        match joined {
            Some(joined) if !joined.contains(&name) => {
                let near = suggest_name(name, joined.iter().copied());
                Err(format!(
                    "no trigger is about the event `{name}`{near} (known: {})",
                    list_names(joined.iter().copied())
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_item(&self, of: &Expr<'_>, key: &Expr<'_>) -> TemplateCheckResult {
        let Some(key) = key.as_const().filter(|_| self.names.is_some()) else { return Ok(()) };
        if let Some(name) = key.as_str() {
            return self.check_member(of, name);
        }
        let joined = self
            .names
            .and_then(|names| names.join_events.as_ref())
            .filter(|_| self.is_global(of, "events"));
        let index = i64::try_from(key).ok().and_then(|index| usize::try_from(index).ok());
        match joined {
            Some(joined) if index.is_none_or(|index| index >= joined.len()) => Err(format!(
                "the config has {} events: `events[0]` to `events[{}]`",
                joined.len(),
                joined.len() - 1
            )),
            _ => Ok(()),
        }
    }
}

fn forbidden_statement(word: &str) -> String {
    format!("`{word}` is no statement of templates (allowed are if and for)")
}
