package policy

// Keys loads a file and returns the keys that the loader knows, by object.
func Keys(text []byte) map[string][]string {
	l := loader{decoder: &decoder{keys: map[string][]string{}}, Policy: &Policy{}}
	l.read(text)
	return l.keys
}
