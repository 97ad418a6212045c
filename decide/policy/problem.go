package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluicekeep/sluicekeep"
)

// Problem is one thing that is wrong with a file, or, from [Policy.Lint],
// doubtful.
type Problem struct {
	Place
	Text string // what is wrong
	Hint string // what to do about it, may be empty
}

// String writes the problem as "file:line:column: text; hint".
func (p Problem) String() string {
	s := p.Text
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	if p.File == "" {
		return s
	}
	return p.Place.String() + ": " + s
}

// String writes the place as compilers do.
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problems are all that is wrong, in the order of the files.
type Problems []Problem

// Error writes one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders problems by place and drops those said twice.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int { return comparePlace(a.Place, b.Place) })
	return slices.Compact(ps)
}

func comparePlace(a, b Place) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// err is nil when nothing is wrong.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return sluicekeep.Errorf(sluicekeep.Invalid, "", "%w", ps.sorted())
}

// quoted makes text from a file fit to be shown: one line, no control or
// direction characters, not long.
func quoted(s string) string {
	if r := []rune(s); len(r) > 80 {
		s = string(r[:80]) + "…"
	}
	return fmt.Sprintf("%+q", s)
}
