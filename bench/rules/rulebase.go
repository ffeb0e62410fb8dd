package main

import (
	"fmt"
	"strings"

	"moongate/internal/gw/config"
)

const rulesPath = config.VsysPath + "/rulebase/decryption/rules"

// maxBatch bounds the elements of one request, in bytes; the API takes bodies
// of 5 MiB.
const maxBatch = 9 << 19 // 4.5 MiB

// rulebase is n rules as elements, in their order. The last rule
// decrypts all; the others match nothing that is measured: each has a source
// that the client is not in, or a host that is not the origin's, or both, or
// the client's network with a host that is not the origin's. The generation is
// in their descriptions, so that one rulebase after another is a change.
func rulebase(n, generation int) []string {
	rules := make([]string, 0, n)
	for i := range n - 1 {
		source, host := "any", "any"
		switch i % 4 {
		case 0:
			source = network(i)
		case 1:
			host = "*.site-" + fmt.Sprint(i) + ".example"
		case 2:
			source, host = network(i), "www.site-"+fmt.Sprint(i)+".example"
		case 3:
			source, host = "127.0.0.0/8", "*.site-"+fmt.Sprint(i)+".example"
		}
		rules = append(rules, rule(ruleName(i), source, host, "no-decrypt", generation))
	}
	return append(rules, rule("forward", "any", "any", "decrypt", generation))
}

// actions are those of a multi-config, one for each rule.
func actions(rules []string) []string {
	list := make([]string, len(rules))
	for i, r := range rules {
		list[i] = fmt.Sprintf(`<set id="%d" xpath="%s">%s</set>`, i+1, rulesPath, r)
	}
	return list
}

// batches puts pieces together, each whole, as few requests as they fit into.
func batches(pieces []string) []string {
	var list []string
	var batch strings.Builder
	for _, piece := range pieces {
		if batch.Len()+len(piece) > maxBatch {
			list = append(list, batch.String())
			batch.Reset()
		}
		batch.WriteString(piece)
	}
	return append(list, batch.String())
}

func ruleName(i int) string { return fmt.Sprintf("rule %05d", i) }

// rulePath is that of the rule in the middle of n.
func rulePath(n int) string {
	if n == 1 {
		return rulesPath + "/" + config.EntryStep("forward")
	}
	return rulesPath + "/" + config.EntryStep(ruleName((n-1)/2))
}

func network(i int) string { return fmt.Sprintf("10.%d.%d.0/24", i>>8, i&0xff) }

// rule is one with every field that managers of firewalls write.
func rule(name, source, host, action string, generation int) string {
	hosts := ""
	if host != "any" {
		hosts = "<destination-host><member>" + host + "</member></destination-host>"
	}
	return "<entry name='" + name + "'><from><member>any</member></from><to><member>any</member></to>" +
		"<source><member>" + source + "</member></source><source-user><member>any</member></source-user>" +
		"<destination><member>any</member></destination>" + hosts +
		"<service><member>any</member></service><category><member>any</member></category>" +
		"<action>" + action + "</action><type><ssl-forward-proxy/></type><disabled>no</disabled>" +
		fmt.Sprintf("<description>one among many, generation %d</description></entry>", generation)
}
