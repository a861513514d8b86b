//! What a template may say, looked at as it is parsed: which statements, operators and filters there are, and, when it is
//! written, whether the names in it mean anything.

use minijinja::Error;
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, ForLoop, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use reconcile::{listed, suggestion};

use super::{FILTERS, TESTS};

/// What events are made of, in templates.
const EVENT: [&str; 6] = ["_id", "name", "params", "author", "time_created", "task_id"];

/// The names that templates of a config may use.
#[derive(Debug, Clone, Default)]
pub(in crate::configs) struct Names<'n> {
    /// The events of its join, by trigger; a config with a single event is none.
    pub(in crate::configs) joined: Option<Vec<&'n str>>,
}

/// Why something is refused.
type Verdict = Result<(), String>;

/// What is wrong with a template, in its grammar or in what would make much of little.
pub(super) fn check_words(text: &str) -> Verdict {
    walk(text, None)
}

/// The same, and whether all names in it mean something.
pub(super) fn check_names(text: &str, names: &Names<'_>) -> Verdict {
    walk(text, Some(names))
}

fn walk(text: &str, names: Option<&Names<'_>>) -> Verdict {
    let parsed =
        parse(text, "template", SyntaxConfig::default()).map_err(|error: Error| super::explain(&error))?;
    Walk { names, locals: Vec::new() }.statement(&parsed)
}

struct Walk<'w> {
    names: Option<&'w Names<'w>>,
    /// Variables of the loops around.
    locals: Vec<String>,
}

impl Walk<'_> {
    fn statements(&mut self, all: &[Stmt<'_>]) -> Verdict {
        all.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Verdict {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::IfCond(cond) => {
                self.expression(&cond.expr)?;
                self.statements(&cond.true_body)?;
                self.statements(&cond.false_body)
            }
            Stmt::ForLoop(each) => self.each(each),
            Stmt::WithBlock(_) => Err(no_statement("with")),
            Stmt::Set(_) | Stmt::SetBlock(_) => Err(no_statement("set")),
            Stmt::AutoEscape(_) => Err(no_statement("autoescape")),
            Stmt::FilterBlock(_) => Err(no_statement("filter")),
            Stmt::Do(_) => Err(no_statement("do")),
        }
    }

    fn each(&mut self, each: &ForLoop<'_>) -> Verdict {
        self.expression(&each.iter)?;
        let outside = self.locals.len();
        self.bind(&each.target);
        self.locals.push("loop".to_owned());
        let inside = match &each.filter_expr {
            Some(filter) => self.expression(filter),
            None => Ok(()),
        };
        let inside = inside.and_then(|()| self.statements(&each.body));
        self.locals.truncate(outside);
        inside?;
        self.statements(&each.else_body)
    }

    fn bind(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(var) => self.locals.push(var.id.to_owned()),
            Expr::List(list) => list.items.iter().for_each(|item| self.bind(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.bind(item)),
            _ => {}
        }
    }

    fn expressions<'e, 's: 'e>(&mut self, mut all: impl Iterator<Item = &'e Expr<'s>>) -> Verdict {
        all.try_for_each(|expression| self.expression(expression))
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Verdict {
        match expression {
            Expr::Var(var) => self.variable(var.id),
            Expr::Const(_) => Ok(()),
            Expr::Slice(slice) => {
                let bounds = [&slice.start, &slice.stop, &slice.step].into_iter().flatten();
                self.expressions(std::iter::once(&slice.expr).chain(bounds))
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => {
                // It would make much of little.
                if matches!(operation.op, BinOpKind::Mul | BinOpKind::Pow) {
                    return Err("`*` is not available in the expressions of templates".to_owned());
                }
                self.expressions([&operation.left, &operation.right].into_iter())
            }
            Expr::Compare(compare) => {
                self.expressions(std::iter::once(&compare.expr).chain(compare.ops.iter().map(|op| &op.expr)))
            }
            Expr::IfExpr(choice) => {
                self.expressions([&choice.test_expr, &choice.true_expr].into_iter().chain(&choice.false_expr))
            }
            Expr::Filter(filter) => self.filter(filter),
            Expr::Test(test) => {
                self.known("test", test.name, &TESTS)?;
                self.expression(&test.expr)?;
                self.arguments(&test.args)
            }
            Expr::GetAttr(get) => {
                self.expression(&get.expr)?;
                self.member(&get.expr, get.name)
            }
            Expr::GetItem(get) => {
                self.expressions([&get.expr, &get.subscript_expr].into_iter())?;
                self.item(&get.expr, &get.subscript_expr)
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.expressions(list.items.iter()),
            Expr::Tuple(tuple) => self.expressions(tuple.items.iter()),
            Expr::Map(map) => self.expressions(map.keys.iter().chain(&map.values)),
        }
    }

    fn filter(&mut self, filter: &Filter<'_>) -> Verdict {
        self.known("filter", filter.name, &FILTERS)?;
        if filter.name == "tojson" && !filter.args.is_empty() {
            return Err("`tojson` takes no arguments in templates".to_owned());
        }
        self.expressions(filter.expr.iter())?;
        self.arguments(&filter.args)
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Verdict {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expression(value),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                Err("`*` is not available in the expressions of templates".to_owned())
            }
        })
    }

    /// The only things that can be called are what a loop has.
    fn call(&mut self, call: &Call<'_>) -> Verdict {
        let name = match &call.expr {
            Expr::GetAttr(get) => {
                if matches!(&get.expr, Expr::Var(var) if var.id == "loop" && self.is_local("loop")) {
                    return self.arguments(&call.args);
                }
                get.name
            }
            Expr::Var(var) => var.id,
            _ => "",
        };
        if self.names.is_none() {
            self.expression(&call.expr)?;
            return self.arguments(&call.args);
        }
        let near = suggestion(name, FILTERS).replace("did you mean", "did you mean the filter");
        Err(format!("there is no function `{name}` in templates{near}"))
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|local| local == name)
    }

    fn variable(&self, name: &str) -> Verdict {
        let Some(names) = self.names.filter(|_| !self.is_local(name)) else { return Ok(()) };
        let known = ["event"].into_iter().chain(names.joined.is_some().then_some("events"));
        if known.clone().any(|known| known == name) {
            return Ok(());
        }
        let why = if name == "events" { " (only a config with several events has it)" } else { "" };
        let locals = self.locals.iter().map(String::as_str);
        let near = suggestion(name, known.clone().chain(locals));
        Err(format!("there is no variable `{name}`{why}{near} (known: {})", listed(known)))
    }

    fn known(&self, what: &str, name: &str, known: &[&str]) -> Verdict {
        if self.names.is_none() || known.contains(&name) {
            return Ok(());
        }
        let near = suggestion(name, known.iter().copied());
        Err(format!(
            "there is no {what} `{name}` in templates{near} (known: {})",
            listed(known.iter().copied())
        ))
    }

    fn is_global(&self, expression: &Expr<'_>, name: &str) -> bool {
        matches!(expression, Expr::Var(var) if var.id == name && !self.is_local(name))
    }

    /// Whether an expression is one of the events, as far as one can see.
    fn is_event(&self, expression: &Expr<'_>) -> bool {
        match expression {
            Expr::GetAttr(get) => self.is_global(&get.expr, "events"),
            Expr::GetItem(get) => self.is_global(&get.expr, "events"),
            other => self.is_global(other, "event"),
        }
    }

    fn member(&self, of: &Expr<'_>, name: &str) -> Verdict {
        let Some(names) = self.names else { return Ok(()) };
        if self.is_event(of) && !EVENT.contains(&name) {
            return Err(format!(
                "an event has no `{name}`{} (known: {})",
                suggestion(name, EVENT),
                listed(EVENT)
            ));
        }
        let joined = names.joined.as_deref().filter(|_| self.is_global(of, "events"));
        match joined {
            Some(joined) if !joined.contains(&name) => {
                let near = suggestion(name, joined.iter().copied());
                Err(format!(
                    "no trigger is about the event `{name}`{near} (known: {})",
                    listed(joined.iter().copied())
                ))
            }
            _ => Ok(()),
        }
    }

    fn item(&self, of: &Expr<'_>, key: &Expr<'_>) -> Verdict {
        let Some(key) = key.as_const().filter(|_| self.names.is_some()) else { return Ok(()) };
        if let Some(name) = key.as_str() {
            return self.member(of, name);
        }
        let joined =
            self.names.and_then(|names| names.joined.as_ref()).filter(|_| self.is_global(of, "events"));
        let place = i64::try_from(key).ok().and_then(|place| usize::try_from(place).ok());
        match joined {
            Some(joined) if place.is_none_or(|place| place >= joined.len()) => Err(format!(
                "the config has {} events: `events[0]` to `events[{}]`",
                joined.len(),
                joined.len() - 1
            )),
            _ => Ok(()),
        }
    }
}

fn no_statement(word: &str) -> String {
    format!("`{word}` is no statement of templates (allowed are if and for)")
}
