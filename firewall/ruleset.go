package firewall

// Store is a place where rules are kept.
type Store string

// The stores of a Linux host. iptables-nft rules live in the nftables core but
// are read through iptables-nft-save, where their matches are legible.
const (
	StoreNFTables       Store = "nftables"
	StoreIPTablesNFT    Store = "iptables-nft"
	StoreIPTablesLegacy Store = "iptables-legacy"
)

// Hook is where the kernel calls a base chain (netfilter hooks, nft(8)).
type Hook string

// The hooks that matter to inbound traffic. The zero Hook is a regular chain.
const (
	HookNone        Hook = ""
	HookIngress     Hook = "ingress"
	HookPrerouting  Hook = "prerouting"
	HookInput       Hook = "input"
	HookForward     Hook = "forward"
	HookOutput      Hook = "output"
	HookPostrouting Hook = "postrouting"
)

// Ruleset is every rule the kernel would consult for a packet, from all
// stores, plus what decides local delivery.
type Ruleset struct {
	Tables []Table
	// Unreadable names stores that exist but could not be read, and why: what
	// they would decide is unknown.
	Unreadable []string
}

// Table is a table of one store.
type Table struct {
	Store  Store
	Family string // ip | ip6 | inet | arp | bridge | netdev
	Name   string
	Writer string // docker | ufw | firewalld | kubernetes | sluicekeep | hand | "" unknown
	Chains []Chain
}

// Chain is a list of rules. A base chain has a hook, a type, a priority
// (lower runs first) and a policy.
type Chain struct {
	Name     string
	Hook     Hook
	Type     string // filter | nat | route
	Priority int
	Policy   Verdict // Accept or Drop, base chains only
	Rules    []Rule
}

// Rule is one rule: when all matches hold, the action happens.
type Rule struct {
	Text    string  // as the store prints it, for people
	Comment string  // the writer's comment, if any
	Writer  string  // where it can be told of this rule alone
	Handle  uint64  // the store's own number, 0 when it has none
	Matches []Match // AND
	// Unknown lists matches that depend on more than the packet (hashlimit,
	// recent, owner …): the rule may or may not match.
	Unknown []string
	Action  Action
}

// Field is a property of a packet that rules match on.
type Field uint8

// The fields. Values are numbers of up to 128 bits, see [Value]:
// addresses as 128-bit numbers (IPv4 in the low 32 bits), interface names as
// their 16 bytes big-endian zero-padded, so that a prefix "eth*" is a range.
const (
	FieldFamily   Field = iota + 1 // 4 or 6
	FieldSrc                       // source address
	FieldDst                       // destination address, as it is at this hook
	FieldProto                     // IP protocol number
	FieldSport                     // source port; for ICMP the type
	FieldDport                     // destination port; for ICMP the code
	FieldIif                       // input interface name
	FieldOif                       // output interface name
	FieldState                     // conntrack state: 1 new, 2 established, 4 related, 8 invalid, 16 untracked
	FieldDstType                   // fib type of the destination, RTN_*: 1 unicast, 2 local, 3 broadcast, 5 multicast
	FieldTCPFlags                  // the flags byte; a new flow is a bare SYN (2)
	FieldCTStatus                  // conntrack status bits: 32 = DNAT done
	FieldCTDport                   // destination port of the original direction
	FieldCTDst                     // destination address of the original direction
	FieldMark                      // packet mark
	FieldSrcType                   // fib type of the source, RTN_*
	FieldReverse                   // reverse-path check: 1 = the answer would leave where this came in, 0 = not
)

// fieldCount is one more than the last field.
const fieldCount = int(FieldReverse) + 1

// Value is a number of up to 128 bits.
type Value struct{ Hi, Lo uint64 }

// Range is an inclusive range of values.
type Range struct{ From, To Value }

// Match says that the packet's fields lie in one of the boxes. A plain match
// has one field; a concatenated set has several.
type Match struct {
	Fields []Field
	// Boxes is an OR of boxes; each box has one range per field. An empty
	// list matches nothing.
	Boxes  [][]Range
	Negate bool
}

// Verdict is what a rule or policy decides. The zero Verdict continues with
// the next rule.
type Verdict uint8

// The verdicts.
const (
	Continue Verdict = iota
	Accept           // final in this base chain only
	Drop             // final
	Reject           // final, with an answer
	Return           // back to the calling chain, or to the policy
	Jump             // to Action.Chain, and back
	Goto             // to Action.Chain, not back
	DNAT             // rewrite the destination, then accept in the nat hook
	SNAT             // rewrite the source (or masquerade)
	Redirect         // DNAT to the incoming interface's own address
	Queue            // user space decides: unknown
)

// Action is what a rule does when it matches. With Map set, the packet's
// fields choose the action (verdict map, dnat map).
type Action struct {
	Verdict Verdict
	Chain   string  // target of Jump and Goto, same table
	To      []Range // new destination addresses of DNAT, empty: unchanged
	ToPort  []Range // new destination ports of DNAT and Redirect, empty: unchanged
	Map     *Map
	Marks   bool // also changes the packet mark, before the verdict
}

// Map chooses an action by fields; no entry means the rule does not match.
type Map struct {
	Fields  []Field
	Entries []MapEntry
}

// MapEntry is one key box and its action.
type MapEntry struct {
	Box    []Range
	Action Action
}
