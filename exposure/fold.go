package exposure

import "github.com/sluicekeep/sluicekeep"

// Fold turns facts into rows, sorted by port, transport, family and address.
func Fold(f Facts) []sluicekeep.Profile { return nil }
