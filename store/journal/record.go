package journal

import (
	"encoding/json"
	"time"
)

// Record is one entry. Append fills Seq and Reserved, and At when it is zero.
type Record struct {
	Seq    uint64    `json:"seq"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`             // a stable word: intent | confirm | undone | expired …
	Change string    `json:"change,omitempty"` // the change it belongs to
	// Intent marks a record that will be followed by an effect: appending it
	// sets Allowance bytes of disk aside for the records that take it back.
	Intent bool `json:"intent,omitempty"`
	// End marks the last record of its change: it gives the allowance back.
	End bool `json:"end,omitempty"`
	// Reserved tells replay that the record was paid from the allowance.
	Reserved bool `json:"reserved,omitempty"`
	// Data is JSON of the caller; white space between its parts is not kept.
	Data json.RawMessage `json:"data,omitempty"`
}

// Allowance is the room in bytes that every intent sets aside for its undo
// and expiry records, their frames included.
const Allowance = 8 << 10

// MaxRecord is the largest encoded record in bytes.
const MaxRecord = 4 << 20

// kindCompacted heads a compacted file. It carries the sequence on and is
// never shown to callers.
const kindCompacted = "journal.compacted"
