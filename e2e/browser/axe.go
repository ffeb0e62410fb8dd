package browser

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/chromedp/chromedp"
)

var errLoading = errors.New("it is loading")

// axe-core 4.14.1 of npm, axe.min.js, as it was published; testdata/axe.LICENSE
// is its licence (MPL-2.0). It is in no program of the product.
//
//go:embed testdata/axe.min.js.gz
var axePacked []byte

var axe = sync.OnceValues(func() (string, error) {
	r, err := gzip.NewReader(bytes.NewReader(axePacked))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
})

// judge is the question that the page is asked.
const judge = `axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations
	.filter((v) => v.impact === "serious" || v.impact === "critical")
	.map((v) => ({rule: v.id, impact: v.impact, help: v.help, elements: v.nodes.map((n) => n.html.slice(0, 160) + "  " + n.any.concat(n.all).map((a) => a.message).join("; "))}))))`

// Finding is a rule of accessibility that a page breaks.
type Finding struct {
	Rule, Impact, Help string
	Elements           []string // the beginnings of their text in HTML
}

func (f Finding) String() string {
	return fmt.Sprintf("%s (%s): %s\n\t%s", f.Rule, f.Impact, f.Help, strings.Join(f.Elements, "\n\t"))
}

// Accessibility has axe-core judge the page as it is, by the rules of WCAG 2.2 A
// and AA and its best practices, and returns what is serious or critical.
func (p *Page) Accessibility() []Finding {
	p.t.Helper()
	script, err := axe()
	if err != nil {
		p.t.Fatalf("unpacking axe-core: %v", err)
	}
	ctx, end := context.WithTimeout(p.ctx, 2*Patience)
	defer end()
	if err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](script)); err != nil {
		p.t.Fatalf("loading axe-core: %v", err)
	}
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](judge, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("judging the page: %v", err)
	}
	var list []Finding
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		p.t.Fatalf("judging the page: %v", err)
	}
	return list
}
