package selector

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on a query: more is a mistake or an attack.
const (
	maxLength = 4096
	maxDepth  = 64
)

// Parse reads a selector in the vocabulary v.
func (v Vocabulary) Parse(s string) (Selector, error) {
	if len(s) > maxLength {
		return Selector{}, wrong(maxLength, "write a shorter one", "longer than %d bytes", maxLength)
	}
	p := &parser{words: v, text: s}
	if err := p.clean(); err != nil {
		return Selector{}, err
	}
	root, err := p.any()
	if err != nil {
		return Selector{}, err
	}
	if p.skip(); p.at < len(p.text) {
		return Selector{}, p.wrong("drop it, or open a parenthesis before", "there is a ) too many")
	}
	return Selector{root}, nil
}

// parser reads by recursive descent; at is a byte offset.
type parser struct {
	words Vocabulary
	text  string
	at    int
	depth int
}

// wrong makes an error at the present character.
func (p *parser) wrong(hint, format string, args ...any) error {
	return wrong(p.column(p.at), hint, format, args...)
}

// column counts characters, not bytes, as people do.
func (p *parser) column(at int) int { return utf8.RuneCountInString(p.text[:at]) + 1 }

// clean refuses what cannot be typed and would deceive a reader's eye.
func (p *parser) clean() error {
	for i, r := range p.text {
		odd := r == utf8.RuneError || unicode.Is(unicode.C, r) && r != '\t'
		if odd || r == '\u2028' || r == '\u2029' {
			return wrong(p.column(i), "type it again without it", "there is an invisible or broken character")
		}
	}
	return nil
}

// skip goes past blanks.
func (p *parser) skip() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

// keyword takes word when it stands alone at this place.
func (p *parser) keyword(word string) bool {
	p.skip()
	rest := p.text[p.at:]
	if len(rest) < len(word) || !strings.EqualFold(rest[:len(word)], word) {
		return false
	}
	if len(rest) > len(word) && !strings.ContainsRune(" \t()", rune(rest[len(word)])) {
		return false
	}
	p.at += len(word)
	return true
}

// peek returns the next character after blanks, 0 at the end.
func (p *parser) peek() byte {
	if p.skip(); p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// any reads terms joined by "or".
func (p *parser) any() (expr, error) {
	first, err := p.all()
	if err != nil {
		return expr{}, err
	}
	of := []expr{first}
	for p.keyword("or") {
		if empty(of[len(of)-1]) {
			p.at -= len("or")
			return expr{}, p.wrong(`quote the word "or" to search for it`, "there is nothing before or")
		}
		next, err := p.all()
		if err != nil {
			return expr{}, err
		}
		of = append(of, next)
	}
	if len(of) == 1 {
		return first, nil
	}
	if empty(of[len(of)-1]) {
		return expr{}, p.wrong(`quote the word "or" to search for it`, "there is nothing after or")
	}
	return join(kindAny, of), nil
}

// empty reports whether e is the query without terms.
func empty(e expr) bool { return e.kind == kindAll && len(e.of) == 0 }

// join makes one node of several, and flattens nodes of the same kind.
func join(k kind, of []expr) expr {
	var flat []expr
	for _, e := range of {
		if e.kind == k {
			flat = append(flat, e.of...)
		} else {
			flat = append(flat, e)
		}
	}
	if len(flat) == 1 {
		return flat[0]
	}
	return expr{kind: k, of: flat}
}

// all reads terms up to "or", a closing parenthesis or the end.
func (p *parser) all() (expr, error) {
	var of []expr
	for {
		at := p.at
		switch c := p.peek(); {
		case c == 0 || c == ')':
			return join(kindAll, of), nil
		case p.keyword("or"):
			p.at = at
			p.skip()
			return join(kindAll, of), nil
		case p.keyword("and"):
			continue // people write it; blank means the same
		}
		e, err := p.one()
		if err != nil {
			return expr{}, err
		}
		of = append(of, e)
	}
}

// one reads a term, a group, or the negation of one.
func (p *parser) one() (expr, error) {
	if p.depth++; p.depth > maxDepth {
		return expr{}, p.wrong("write it flatter", "it is nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case p.keyword("not"):
		return p.negated()
	case p.peek() == '-':
		p.at++
		return p.negated()
	case p.peek() == '(':
		return p.group()
	}
	t, err := p.term()
	if err != nil {
		return expr{}, err
	}
	return expr{kind: kindTerm, term: t}, nil
}

// negated reads what follows "not".
func (p *parser) negated() (expr, error) {
	if c := p.peek(); c == 0 || c == ')' {
		return expr{}, p.wrong("say what is not wanted", "there is nothing to negate")
	}
	e, err := p.one()
	if err != nil {
		return expr{}, err
	}
	return expr{kind: kindNot, of: []expr{e}}, nil
}

// group reads a parenthesis.
func (p *parser) group() (expr, error) {
	open := p.at
	p.at++
	e, err := p.any()
	if err != nil {
		return expr{}, err
	}
	if p.peek() != ')' {
		return expr{}, wrong(p.column(open), "close it with )", "this ( is never closed")
	}
	if empty(e) {
		return expr{}, wrong(p.column(open), "write a term inside, or drop it", "these parentheses are empty")
	}
	p.at++
	return e, nil
}

// term reads one condition.
func (p *parser) term() (Term, error) {
	t := Term{column: p.column(p.at), Op: Has}
	start := p.at
	if p.text[p.at] != '"' {
		key, op := p.keyAndOp()
		if op != "" {
			t.Key, t.Op = strings.ToLower(key), op
			p.at += len(key) + len(op)
		}
	}
	at := p.at
	var err error
	if t.Value, t.quoted, err = p.value(); err != nil {
		return Term{}, err
	}
	if t.Key != "" && t.Value == "" && !t.quoted {
		return Term{}, wrong(p.column(at), "write a value after "+t.Key+string(t.Op), "%s has no value", t.Key)
	}
	return p.words.check(t, p.column(start), p.column(at))
}

// keyAndOp looks at the next word for a key and an operator; without an
// operator it is a bare word, and so is an address such as ::1 or fe::1.
func (p *parser) keyAndOp() (string, Op) {
	word := p.text[p.at:p.end()]
	n := strings.IndexAny(word, ":=!<>")
	if n < 0 || addressLike(word) {
		return "", ""
	}
	for _, op := range []Op{IsNot, AtMost, AtLeast, Less, Greater, Is, Has} {
		if strings.HasPrefix(word[n:], string(op)) {
			return word[:n], op
		}
	}
	return "", ""
}

// addressLike reports whether word is an address or prefix.
func addressLike(word string) bool {
	if _, err := netip.ParseAddr(word); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(word)
	return err == nil
}

// end returns where the present word ends.
func (p *parser) end() int {
	if n := strings.IndexAny(p.text[p.at:], " \t()\""); n >= 0 {
		return p.at + n
	}
	return len(p.text)
}

// value reads a word or a quoted string.
func (p *parser) value() (text string, quoted bool, err error) {
	if p.at < len(p.text) && p.text[p.at] == '"' {
		text, err = p.quotedString()
		return text, true, err
	}
	end := p.end()
	text = p.text[p.at:end]
	if end < len(p.text) && p.text[end] == '"' {
		p.at = end
		return "", false, p.wrong("quote the whole value", "there is a quote inside a word")
	}
	p.at = end
	return text, false, nil
}

// quotedString reads a string in double quotes; \ takes the next character as
// it is.
func (p *parser) quotedString() (string, error) {
	var b strings.Builder
	open := p.at
	for i := p.at + 1; i < len(p.text); i++ {
		switch c := p.text[i]; c {
		case '"':
			p.at = i + 1
			if p.at < len(p.text) && !strings.ContainsRune(" \t()", rune(p.text[p.at])) {
				return "", p.wrong("put a blank after the quote", "there is text right after a quoted string")
			}
			return b.String(), nil
		case '\\':
			if i++; i < len(p.text) {
				b.WriteByte(p.text[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", wrong(p.column(open), `close it with "`, "this quote is never closed")
}

// needsQuotes reports whether the value, written bare, would be read as
// something else.
func needsQuotes(t Term) bool {
	switch v := t.Value; {
	case v == "" || strings.ContainsAny(v, " \t()\"\\"):
		return true
	case t.Key != "":
		return strings.HasPrefix(v, "=")
	case strings.EqualFold(v, "or"), strings.EqualFold(v, "not"), strings.EqualFold(v, "and"):
		return true
	default:
		return v[0] == '-' || strings.ContainsAny(v, ":=!<>") && !addressLike(v)
	}
}
