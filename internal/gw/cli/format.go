package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"moongate/internal/gw/config"
)

// format is how a part of the configuration is written.
type format string

const (
	braces      format = "default" // name { name value; }
	setCommands format = "set"     // the commands that would make it
	asXML       format = "xml"
	asJSON      format = "json"
)

// show writes nodes that lie beside one another. prefix is the words of the
// set command that lead to their parent.
func (f format) show(nodes []*config.Node, prefix []string) string {
	var b strings.Builder
	switch f {
	case setCommands:
		for _, n := range nodes {
			writeSet(&b, n, append([]string{"set"}, prefix...))
		}
	case asXML:
		for _, n := range nodes {
			text := string(config.Encode(n))
			if _, after, ok := strings.Cut(text, "?>\n"); ok {
				text = after
			}
			b.WriteString(text)
		}
	case asJSON:
		object := map[string]any{}
		for _, n := range nodes {
			addJSON(object, n)
		}
		text, err := json.MarshalIndent(object, "", "  ")
		if err != nil {
			panic("cli: strings and maps that are no JSON: " + err.Error()) // they always are
		}
		b.Write(text)
		b.WriteByte('\n')
	default:
		for _, n := range nodes {
			writeBraces(&b, n, 0)
		}
	}
	return b.String()
}

// label is what a node is called: an entry by its name.
func label(n *config.Node) string {
	if n.Entry != "" {
		return n.Entry
	}
	return n.Name
}

// members returns the values of a list of members, nil where n is none.
func members(n *config.Node) []string {
	var list []string
	for _, c := range n.Children {
		if c.Name != "member" {
			return nil
		}
		list = append(list, c.Text)
	}
	return list
}

func writeBraces(b *strings.Builder, n *config.Node, depth int) {
	indent := strings.Repeat("  ", depth)
	switch list := members(n); {
	case len(list) == 1:
		fmt.Fprintf(b, "%s%s %s;\n", indent, quote(label(n)), quote(list[0]))
	case len(list) > 1:
		fmt.Fprintf(b, "%s%s [ %s ];\n", indent, quote(label(n)), strings.Join(quoteAll(list), " "))
	case len(n.Children) > 0:
		fmt.Fprintf(b, "%s%s {\n", indent, quote(label(n)))
		for _, c := range n.Children {
			writeBraces(b, c, depth+1)
		}
		fmt.Fprintf(b, "%s}\n", indent)
	case n.Text != "":
		fmt.Fprintf(b, "%s%s %s;\n", indent, quote(label(n)), quote(n.Text))
	default:
		fmt.Fprintf(b, "%s%s;\n", indent, quote(label(n)))
	}
}

func writeSet(b *strings.Builder, n *config.Node, words []string) {
	words = append(words[:len(words):len(words)], label(n))
	line := func(more ...string) {
		b.WriteString(strings.Join(append(quoteAll(words), more...), " ") + "\n")
	}
	switch list := members(n); {
	case len(list) == 1:
		line(quote(list[0]))
	case len(list) > 1:
		line("[ " + strings.Join(quoteAll(list), " ") + " ]")
	case len(n.Children) > 0:
		for _, c := range n.Children {
			writeSet(b, c, words)
		}
	case n.Text != "":
		line(quote(n.Text))
	default:
		line()
	}
}

func quoteAll(words []string) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = quote(w)
	}
	return list
}

// addJSON puts a node into its parent's object: a list of entries is an array
// of objects with @name, a list of members an array of strings.
func addJSON(parent map[string]any, n *config.Node) {
	value := jsonOf(n)
	if n.Name != "entry" {
		parent[n.Name] = value
		return
	}
	list, _ := parent["entry"].([]any)
	parent["entry"] = append(list, value)
}

func jsonOf(n *config.Node) any {
	if n.Entry == "" && len(n.Children) == 0 {
		return n.Text
	}
	if list := members(n); n.Entry == "" && list != nil {
		return map[string]any{"member": list}
	}
	object := map[string]any{}
	if n.Entry != "" {
		object["@name"] = n.Entry
	}
	for _, a := range n.Attrs {
		object["@"+a.Name] = a.Value
	}
	for _, c := range n.Children {
		addJSON(object, c)
	}
	return object
}
