package policy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sluicekeep/sluicekeep/decide/policy"
)

// node is as much of JSON Schema as ours uses.
type node struct {
	Title      string          `json:"title"`
	Type       string          `json:"type"`
	Properties map[string]node `json:"properties"`
	Required   []string        `json:"required"`
	Additional json.RawMessage `json:"additionalProperties"`
	Items      *node           `json:"items"`
	OneOf      []node          `json:"oneOf"`
	Enum       []any           `json:"enum"`
	Pattern    string          `json:"pattern"`
}

func schema(t *testing.T) node {
	t.Helper()
	var n node
	if err := json.Unmarshal(policy.Schema(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// accepts returns why a value does not fit, or "".
func (n node) accepts(v any, at string) string {
	if len(n.OneOf) > 0 {
		for _, o := range n.OneOf {
			if o.accepts(v, at) == "" {
				return ""
			}
		}
		return at + " fits no variant"
	}
	if len(n.Enum) > 0 && !slices.ContainsFunc(n.Enum, func(e any) bool { return fmt.Sprint(e) == fmt.Sprint(v) }) {
		return fmt.Sprintf("%s is %v", at, v)
	}
	switch v := v.(type) {
	case map[string]any:
		return n.acceptsObject(v, at)
	case []any:
		if n.Type != "array" {
			return at + " is a list"
		}
		for i, item := range v {
			if why := n.Items.accepts(item, fmt.Sprintf("%s[%d]", at, i)); why != "" {
				return why
			}
		}
	case int:
		if n.Type != "integer" {
			return at + " is a number"
		}
	default:
		if n.Type != "string" || n.Pattern != "" && !regexp.MustCompile(n.Pattern).MatchString(fmt.Sprint(v)) {
			return fmt.Sprintf("%s is %v", at, v)
		}
	}
	return ""
}

func (n node) acceptsObject(v map[string]any, at string) string {
	for _, r := range n.Required {
		if _, ok := v[r]; !ok {
			return at + " lacks " + r
		}
	}
	for key, value := range v {
		sub, ok := n.Properties[key]
		if !ok && (string(n.Additional) == "false" || json.Unmarshal(n.Additional, &sub) != nil) {
			return at + " has " + key
		}
		if why := sub.accepts(value, at+"."+key); why != "" {
			return why
		}
	}
	return ""
}

func TestSchemaAcceptsTheExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if why := schema(t).accepts(v, "policy"); why != "" {
		t.Error(why)
	}
	v["mode"] = "watch"
	if schema(t).accepts(v, "policy") == "" {
		t.Error("the schema lets an unknown key pass")
	}
}

// The schema and the loader know the same keys of the same objects.
func TestSchemaMatchesTheLoader(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Keys(text)
	got := map[string][]string{}
	var collect func(n node, title string)
	collect = func(n node, title string) {
		for key, sub := range n.Properties {
			got[title] = append(got[title], key)
			collect(sub, sub.Title)
		}
		var sub node
		if json.Unmarshal(n.Additional, &sub) == nil {
			collect(sub, sub.Title)
		}
		if n.Items != nil {
			collect(*n.Items, n.Items.Title)
		}
	}
	collect(schema(t), "the policy")
	for _, keys := range []map[string][]string{want, got} {
		for _, k := range keys {
			slices.Sort(k)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("loader (-) and schema (+) differ:\n%s", diff)
	}
}
