package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluicekeep/sluicekeep"
)

// Limits on what is read.
const (
	maxFile     = 4 << 20
	maxProblems = 100
)

// Load reads and merges files, by name. All that is wrong is in the error,
// which is Invalid and holds [Problems].
func Load(files map[string][]byte) (*Policy, error) {
	l := loader{decoder: &decoder{}, Policy: &Policy{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l.file = name
		l.read(files[name])
	}
	if len(l.problems) == 0 {
		l.refer()
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return l.Policy, nil
}

// Files reads what paths name: files, and the *.yaml and *.yml of directories.
func Files(paths ...string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, path := range paths {
		names := []string{path}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			yml, _ := filepath.Glob(filepath.Join(path, "*.yml"))
			names, _ = filepath.Glob(filepath.Join(path, "*.yaml"))
			names = append(names, yml...)
		}
		for _, name := range names {
			text, err := readFile(name)
			if err != nil {
				return nil, err
			}
			out[name] = text
		}
	}
	if len(out) == 0 {
		return nil, sluicekeep.Errorf(sluicekeep.NotFound, "name a .yaml file, or write one with `sluicekeep policy init`",
			"there is no policy file in %s", strings.Join(paths, ", "))
	}
	return out, nil
}

// readFile reads one file of bounded size.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, sluicekeep.Errorf(sluicekeep.NotFound, "check the path", "read policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, sluicekeep.Errorf(sluicekeep.Unavailable, "", "read policy: %w", err)
	}
	return text, nil
}

// loader fills a policy from nodes.
type loader struct {
	*decoder
	*Policy
	weighed Place
}

// read reads one file.
func (l *loader) read(text []byte) {
	root, err := parse(text)
	if err != nil {
		l.problems = append(l.problems, Problem{l.whereOf(err), "this is not YAML: " + quoted(err.Error()), ""})
		return
	}
	if root == nil {
		l.problems = append(l.problems, Problem{Place{l.file, 1, 1}, "the file is empty", "write at least version: 1"})
		return
	}
	l.top(root)
	if len(l.problems) > maxProblems {
		l.problems = append(l.problems[:maxProblems], Problem{Place{File: l.file}, "there are more problems", ""})
	}
}

// parse reads one document; nil is an empty one.
func parse(text []byte) (root *yaml.Node, err error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	defer func() { // the library panics on some broken documents
		if p := recover(); p != nil {
			root, err = nil, fmt.Errorf("unreadable: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document")
	}
	return doc.Content[0], nil
}

// whereOf finds the line that the YAML library names.
func (l *loader) whereOf(err error) Place {
	at := Place{l.file, 1, 1}
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
	}
	return at
}

// top reads the root of a file.
func (l *loader) top(root *yaml.Node) {
	l.object(root, "the policy",
		field{"version", true, l.number("version", 1, 1, func(int) {})},
		field{"zones", false, func(n *yaml.Node) { l.named(n, "zones", l.zone) }},
		field{"assets", false, func(n *yaml.Node) { l.named(n, "assets", l.asset) }},
		field{"services", false, func(n *yaml.Node) { l.named(n, "services", l.service) }},
		field{"grants", false, func(n *yaml.Node) { l.list(n, "grants", l.grant) }},
		field{"guards", false, func(n *yaml.Node) { l.list(n, "guards", l.guard) }},
		field{"approval", false, func(n *yaml.Node) { l.list(n, "approval", l.rule) }},
		field{"weights", false, l.weights},
	)
}

// zone reads one zone.
func (l *loader) zone(key, n *yaml.Node) {
	z := Zone{Name: key.Value, At: l.place(key)}
	if isZone(z.Name) {
		l.wrong(key, "choose another name and map it with as: "+z.Name, "%s is a built-in zone", z.Name)
	}
	l.object(n, "a zone",
		field{"in", true, func(n *yaml.Node) {
			l.oneOrMany(n, "in", func(n *yaml.Node) {
				if s, ok := l.scalar(n, "a prefix"); ok {
					if p, ok := l.prefix(n, s); ok {
						z.In = append(z.In, p)
					}
				}
			})
		}},
		field{"as", true, l.choice("as", zoneNames(), func(s string) { z.As = sluicekeep.Zone(s) })},
	)
	l.Zones = append(l.Zones, z)
}

func zoneNames() []string {
	var out []string
	for _, z := range sluicekeep.Zones() {
		out = append(out, string(z))
	}
	return out
}

func isZone(name string) bool { return slices.Contains(zoneNames(), name) }

// asset reads one asset.
func (l *loader) asset(key, n *yaml.Node) {
	a := Asset{Name: key.Value, At: l.place(key)}
	modes := []string{string(Watch), string(Shadow), string(Enforce)}
	l.object(n, "an asset",
		field{"match", false, func(n *yaml.Node) { a.Match = l.labels(n) }},
		field{"env", false, l.text("env", &a.Env)},
		field{"owner", false, l.text("owner", &a.Owner)},
		field{"mode", false, l.choice("mode", modes, func(s string) { a.Mode = Mode(s) })},
	)
	l.Assets = append(l.Assets, a)
}

// service reads the ports of a service.
func (l *loader) service(key, n *yaml.Node) {
	s := Service{Name: key.Value, At: l.place(key)}
	l.oneOrMany(n, "a service", func(n *yaml.Node) { s.Ports = append(s.Ports, l.ports(n)...) })
	l.Services = append(l.Services, s)
}

// maxPorts bounds how many ports one range may name.
const maxPorts = 1024

// ports reads 443/tcp, 443 (TCP and UDP), 8000-8010/tcp or dynamic/tcp.
func (l *loader) ports(n *yaml.Node) []sluicekeep.Port {
	s, ok := l.scalar(n, "a port")
	if !ok {
		return nil
	}
	if tr, dynamic := strings.CutPrefix(s, "dynamic/"); dynamic {
		t := sluicekeep.Transport(tr)
		if t.Number() == 0 {
			l.wrong(n, "write dynamic/tcp, dynamic/udp or dynamic/sctp", "%s is not a port", quoted(s))
			return nil
		}
		return []sluicekeep.Port{{Transport: t}}
	}
	num, tr, given := strings.Cut(s, "/")
	from, to, ranged := strings.Cut(num, "-")
	suffix := ""
	if given {
		suffix = "/" + tr
	}
	first, err := sluicekeep.ParsePort(from + suffix)
	if err == nil && ranged {
		return l.portRange(n, first, to+suffix)
	}
	if err != nil {
		l.wrong(n, "write it like 443/tcp, 53/udp, 8000-8010/tcp; ports go from 1 to 65535", "%s is not a port", quoted(s))
	}
	return first
}

// portRange spells out a range.
func (l *loader) portRange(n *yaml.Node, first []sluicekeep.Port, to string) []sluicekeep.Port {
	last, err := sluicekeep.ParsePort(to)
	if err != nil || last[0].Number < first[0].Number || last[0].Number-first[0].Number >= maxPorts {
		l.wrong(n, fmt.Sprintf("write FROM-TO/tcp, at most %d ports", maxPorts), "%s is not a range of ports", quoted(n.Value))
		return nil
	}
	var out []sluicekeep.Port
	for _, p := range first {
		for num := int(p.Number); num <= int(last[0].Number); num++ {
			out = append(out, sluicekeep.Port{Transport: p.Transport, Number: uint16(num)})
		}
	}
	return out
}

// weights reads the shares of risk.
func (l *loader) weights(n *yaml.Node) {
	if l.weighed.File != "" {
		l.wrong(n, "keep one of them", "weights are given twice, first at %s", l.weighed)
		return
	}
	l.weighed = l.place(n)
	w, sum := &l.Policy.Weights, 0
	read := func(name string, to *int) field {
		return field{name, true, l.number(name, 0, 100, func(v int) { *to = v; sum += v })}
	}
	before := len(l.problems)
	l.object(n, "weights",
		read("dependence", &w.Dependence), read("exposure", &w.Exposure), read("vulnerability", &w.Vulnerability),
		read("utilisation", &w.Utilisation), read("compliance", &w.Compliance))
	if sum != 100 && len(l.problems) == before {
		l.wrong(n, "make them add up to 100", "weights add up to %d", sum)
	}
}
