// Package selector is the one small query language of Sluicekeep: the CLI, the
// query bar, the API and the policy file all read it.
//
//	s, err := selector.Parse(`reachable:internet risk>=70 (owner:none or seen<7d)`)
//	if err == nil && s.Match(profile, time.Now()) { … }
//
// A term is key:value, key=value, key!=value or a comparison with < <= > >=; a
// bare word is searched everywhere, a bare number is a port. Blank is AND, "or"
// is OR, "not" or a leading "-" negates, parentheses group. In text, ":" finds
// the value inside, "=" is the whole text; letter case never matters.
//
// It promises to find what the profile says, not what is true: a row whose
// risk was never assessed matches no comparison of risk.
package selector

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicekeep/sluicekeep"
)

// Selector is a parsed query. The zero Selector selects everything.
type Selector struct{ root expr }

// expr is a node of the tree: a term, or all, any or none of its children.
type expr struct {
	kind kind
	of   []expr
	term Term
}

type kind uint8

const (
	kindAll kind = iota // the zero expr is an empty AND: everything
	kindAny
	kindNot
	kindTerm
)

// Op compares a key with a value.
type Op string

// The operators. Has is ":", and also what a bare word does.
const (
	Has     Op = ":"
	Is      Op = "="
	IsNot   Op = "!="
	Less    Op = "<"
	AtMost  Op = "<="
	Greater Op = ">"
	AtLeast Op = ">="
)

// Term is one condition. A bare word has no key.
type Term struct {
	Key    string
	Op     Op
	Value  string
	quoted bool
	column int
}

// Parse reads a selector of profiles. Its error is Invalid and holds a
// [SyntaxError] that points at the character.
func Parse(s string) (Selector, error) { return Profiles().Parse(s) }

// Complete offers ways to go on with the last word of a query of profiles.
func Complete(query string) []string { return Profiles().Complete(query) }

// Match reports whether p is selected; now is what ages are measured from.
func (s Selector) Match(p sluicekeep.Profile, now time.Time) bool {
	return s.root.eval(func(t Term) bool { return matchProfile(&p, now, t) })
}

// Eval decides the selector by asking holds about its terms. Terms with != are
// asked with = and negated.
func (s Selector) Eval(holds func(Term) bool) bool { return s.root.eval(holds) }

func (e *expr) eval(holds func(Term) bool) bool {
	switch e.kind {
	case kindTerm:
		if t := e.term; t.Op == IsNot {
			t.Op = Is
			return !holds(t)
		}
		return holds(e.term)
	case kindNot:
		return !e.of[0].eval(holds)
	case kindAny:
		for i := range e.of {
			if e.of[i].eval(holds) {
				return true
			}
		}
		return false
	}
	for i := range e.of {
		if !e.of[i].eval(holds) {
			return false
		}
	}
	return true
}

// Terms returns the terms in the order of the query.
func (s Selector) Terms() []Term {
	var out []Term
	var visit func(expr)
	visit = func(e expr) {
		if e.kind == kindTerm {
			out = append(out, e.term)
		}
		for _, c := range e.of {
			visit(c)
		}
	}
	visit(s.root)
	return out
}

// String writes the selector in its one canonical form; Parse reads it back to
// the same selector.
func (s Selector) String() string { return s.root.text() }

func (e *expr) text() string {
	switch e.kind {
	case kindTerm:
		return e.term.String()
	case kindNot:
		return "not " + e.of[0].grouped()
	}
	parts := make([]string, len(e.of))
	for i := range e.of {
		parts[i] = e.of[i].text()
		if e.kind == kindAll {
			parts[i] = e.of[i].grouped()
		}
	}
	if e.kind == kindAny {
		return strings.Join(parts, " or ")
	}
	return strings.Join(parts, " ")
}

// grouped writes e so that it binds tighter than AND.
func (e *expr) grouped() string {
	if e.kind == kindTerm || e.kind == kindNot {
		return e.text()
	}
	return "(" + e.text() + ")"
}

// String writes the term, quoted where it must be.
func (t Term) String() string {
	v := t.Value
	if t.quoted || needsQuotes(t) {
		v = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
	}
	if t.Key == "" {
		return v
	}
	return t.Key + string(t.Op) + v
}

// SyntaxError points at what is wrong in a query.
type SyntaxError struct {
	Column int    // of the first wrong character, from 1
	What   string // what is wrong
	Hint   string // what to write instead
}

// Error names the column and what is wrong there.
func (e *SyntaxError) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.What) }

// wrong makes the error that people read.
func wrong(column int, hint, format string, args ...any) error {
	e := &SyntaxError{Column: column, What: fmt.Sprintf(format, args...), Hint: hint}
	return sluicekeep.Errorf(sluicekeep.Invalid, hint, "selector: %w", e)
}

// Fault returns the SyntaxError inside an error of Parse; of another error, one
// that says the same at column 1.
func Fault(err error) *SyntaxError {
	var e *SyntaxError
	if errors.As(err, &e) {
		return e
	}
	return &SyntaxError{Column: 1, What: err.Error()}
}
