package firewall_test

import (
	"fmt"
	"net/netip"

	"github.com/sluicekeep/sluicekeep"
	"github.com/sluicekeep/sluicekeep/firewall"
)

// A host drops everything but SSH from one office.
func Example() {
	office := netip.MustParsePrefix("203.0.113.0/24")
	rules := &firewall.Ruleset{Tables: []firewall.Table{{
		Store: firewall.StoreNFTables, Family: "inet", Name: "filter", Writer: "hand",
		Chains: []firewall.Chain{{
			Name: "input", Hook: firewall.HookInput, Type: "filter", Policy: firewall.Drop,
			Rules: []firewall.Rule{{
				Text: "ip saddr 203.0.113.0/24 tcp dport 22 accept",
				Matches: []firewall.Match{
					firewall.Matches(firewall.FieldFamily, firewall.Between(4, 4)),
					firewall.Matches(firewall.FieldSrc, firewall.Prefix(office)),
					firewall.Matches(firewall.FieldProto, firewall.Between(6, 6)),
					firewall.Matches(firewall.FieldDport, firewall.Between(22, 22)),
				},
				Action: firewall.Action{Verdict: firewall.Accept},
			}},
		}},
	}}}
	e := firewall.NewEvaluator(firewall.Host{
		Rules: rules, Uplinks: []string{"eth0"},
		Local: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	})
	ssh := firewall.Query{Dst: netip.IPv4Unspecified(), Port: sluicekeep.Port{Transport: sluicekeep.TCP, Number: 22}}
	inside := e.Predict(ssh, e.From(firewall.Zone{In: []netip.Prefix{office}}))
	outside := e.Predict(ssh, e.From(firewall.Zone{Except: append(firewall.NotGlobal(), office)}))
	fmt.Println(e.Declared(ssh), inside.Reach, outside.Reach)
	for _, step := range e.Trace(inside.Sample).Steps {
		fmt.Println(step.Hook, step.Verdict, step.Rule)
	}
	// Output:
	// partial open filtered
	// routing input 192.0.2.1 is this host
	// input accept ip saddr 203.0.113.0/24 tcp dport 22 accept
}
