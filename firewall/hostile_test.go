package firewall_test

import (
	"fmt"
	"testing"

	"github.com/sluicekeep/sluicekeep"
	. "github.com/sluicekeep/sluicekeep/firewall"
)

// Rules of a file may say anything: the answer comes, and is never more sure
// than the rules.
func TestHostileRules(t *testing.T) {
	backwards := []Range{Between(9, 1)}
	fan := base("ip", HookInput, 0, Drop, jump("c0"))
	for i := range 40 {
		next := fmt.Sprint("c", i+1)
		fan = with(fan, Chain{Name: fmt.Sprint("c", i), Rules: []Rule{jump(next), jump(next)}})
	}
	fan = with(fan, Chain{Name: "c40", Rules: []Rule{rule("r", Return)}})
	noBox := Match{Fields: []Field{FieldDport}, Boxes: [][]Range{{}}}
	nowhere := Rule{Action: Action{Verdict: DNAT, To: backwards, ToPort: backwards}}
	noField := Matches(Field(200), Between(1, 2))
	for name, rs := range map[string]*Ruleset{
		"jump to nowhere":     {Tables: []Table{base("ip", HookInput, 0, Accept, jump("gone"))}},
		"jumps that fan out":  {Tables: []Table{fan}},
		"nat to nowhere":      {Tables: []Table{natTable(nowhere)}},
		"boxes of wrong size": {Tables: []Table{base("ip", HookInput, 0, Drop, rule("r", Accept, noBox))}},
		"fields that are not": {Tables: []Table{base("ip", HookInput, 0, Drop, rule("r", Accept, noField))}},
		"unknown family":      {Tables: []Table{base("decnet", HookInput, 0, Drop)}},
	} {
		t.Run(name, func(t *testing.T) {
			e := NewEvaluator(testHost(rs))
			a := e.Predict(query("0.0.0.0", 80), e.From(Zone{}))
			e.Trace(a.Sample)
			e.Published()
			e.ExplicitOpens()
			if _, err := Lint(rs); err != nil || e.Err() != nil {
				t.Error(err, e.Err())
			}
			if name == "jump to nowhere" || name == "fields that are not" {
				if a.Reach != sluicekeep.ReachUnknown {
					t.Errorf("sure of %q", a.Reach)
				}
			}
		})
	}
}
