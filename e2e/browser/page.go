package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

//go:embed find.js
var finder string

// Page is a tab, looked at and used by one test.
type Page struct {
	t       TB
	browser *Browser
	ctx     context.Context
	width   int
	height  int
	within  string // heading of the part that steps are in; "" for the page
	network *traffic
}

// For is the page in another test, such as a part of the first.
func (p *Page) For(t TB) *Page {
	q := *p
	q.t = t
	return &q
}

// In is the part of the page below a heading or a legend, or the row of a table
// that has a cell with exactly these words.
func (p *Page) In(heading string) *Page {
	q := *p
	q.within = heading
	return &q
}

// Open loads an address of the server.
func (p *Page) Open(path string) {
	p.t.Helper()
	p.do("opening "+path, chromedp.Navigate(p.browser.address(path)))
}

// Path is the page's address on the server.
func (p *Page) Path() string {
	p.t.Helper()
	var at string
	p.eval(`location.pathname + location.search`, &at)
	return at
}

// eval runs a script and decodes what it comes to.
func (p *Page) eval(script string, out any) {
	p.t.Helper()
	if err := p.try(script, out); err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
}

// try is eval that may fail. A script that throws is an error with its words.
func (p *Page) try(script string, out any) error {
	ctx, end := context.WithTimeout(p.ctx, Patience)
	defer end()
	whole := `if (!globalThis.seen) {` + finder + `}; (() => { try { return JSON.stringify({value: (() => { return ` + script + ` })()}) } catch (e) { return JSON.stringify({error: String(e.message)}) } })()`
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](whole))
	if err != nil {
		return err
	}
	answer := struct {
		Value json.RawMessage `json:"value"`
		Error string          `json:"error"`
	}{}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("%s", answer.Error)
	}
	if out == nil || answer.Value == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, out)
}

// until repeats f until it returns nil, or fails the test with what it returned
// last.
func (p *Page) until(what string, f func() error) {
	p.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: %v\nthe page at %s shows:\n%s", what, err, p.location(), p.shown())
		}
		time.Sleep(30 * time.Millisecond)
	}
}

func (p *Page) location() string {
	var at string
	_ = p.try(`location.href`, &at) // for a message alone
	return at
}

// shown is what the page shows, or why that cannot be told.
func (p *Page) shown() string {
	var text string
	if err := p.try(`document.body.innerText`, &text); err != nil {
		return err.Error()
	}
	return text
}

// quoted is a value as a script has it.
func quoted(values ...string) string {
	list := make([]string, len(values))
	for i, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err) // a string is always one
		}
		list[i] = string(text)
	}
	return strings.Join(list, ", ")
}

// point is where an element is, once it is there and nothing hides it.
type point struct {
	X, Y  float64
	Loads bool
}

// reach waits for an element, given as a script, and says where it is.
func (p *Page) reach(what, script string) point {
	p.t.Helper()
	var at point
	p.until(what, func() error {
		return p.try(`(() => { const e = `+script+`; const m = seen.middle(e);
			const top = document.elementFromPoint(m.x, m.y);
			if (!top || !(e.contains(top) || top.contains(e) || (e.labels && [...e.labels].some((l) => l.contains(top))))) throw new Error("something lies over it: " + (top ? top.outerHTML.slice(0, 80) : "nothing"));
			return {...m, loads: seen.loads(e)} })()`, &at)
	})
	return at
}

// Press presses a link or a button with the mouse, and waits for the page that
// it leads to.
func (p *Page) Press(label string) {
	p.t.Helper()
	p.press(fmt.Sprintf("pressing %q", label), `seen.pressable(`+quoted(label, p.within)+`)`)
}

// press presses an element, given as a script. Where it was moved away under the
// mouse, by a part of the page that has just changed, it is pressed again, as a
// person would.
func (p *Page) press(what, script string) {
	p.t.Helper()
	for range 5 {
		at := p.reach(what, script)
		p.eval(`(() => { globalThis.left = globalThis.hit = false; `+script+`.addEventListener("click", () => { globalThis.hit = true }, {capture: true, once: true}); return true })()`, nil)
		p.do(what, chromedp.MouseClickXY(at.X, at.Y))
		var hit bool
		p.until(what, func() error { return p.try(`globalThis.left !== false || globalThis.hit`, &hit) })
		if !hit {
			continue
		}
		if at.Loads {
			p.arrive(what)
		}
		return
	}
	p.t.Fatalf("%s: it moves away", what)
}

// leave waits for the next page after an act.
func (p *Page) leave(what string, act func()) {
	p.t.Helper()
	p.eval(`(globalThis.left = false)`, nil)
	act()
	p.arrive(what)
}

// arrive waits until another page is there than the one that has the mark.
func (p *Page) arrive(what string) {
	p.t.Helper()
	p.until(what, func() error {
		var state string
		if err := p.try(`globalThis.left === false ? "the page stays" : document.readyState`, &state); err != nil {
			return err
		}
		if state != "complete" {
			return fmt.Errorf("%s", state)
		}
		return nil
	})
}

// Menu presses entries of the menu, one after the other; those that are headings
// are looked for alone.
func (p *Page) Menu(names ...string) {
	p.t.Helper()
	for i, name := range names {
		part := "Sections"
		if i > 0 {
			part = names[0]
		}
		var link bool
		what := fmt.Sprintf("the menu's %q", name)
		p.until(what, func() error {
			return p.try(`(() => { const nav = [...document.querySelectorAll("nav")].find((n) => n.getAttribute("aria-label") === `+quoted(part)+`);
				const list = nav ? [...nav.querySelectorAll("a, .heading")].filter((e) => seen.shown(e) && seen.words(e) === `+quoted(name)+`) : [];
				if (list.length !== 1) throw new Error(list.length + " entries");
				for (const e of document.querySelectorAll("[data-menu]")) delete e.dataset.menu;
				list[0].dataset.menu = "here"; return list[0].tagName === "A" })()`, &link)
		})
		if !link {
			continue
		}
		p.press(what, `document.querySelector("[data-menu=here]")`)
	}
}

// Fill types a text into the field that a label names, in place of what is there.
func (p *Page) Fill(label, text string) {
	p.t.Helper()
	what := fmt.Sprintf("filling %q", label)
	script := `seen.control(` + quoted(label, p.within) + `)`
	p.reach(what, script)
	p.eval(`(() => { const e = `+script+`; e.focus(); e.select(); return true })()`, nil)
	if text == "" {
		p.do(what, chromedp.KeyEvent(kb.Delete))
		return
	}
	call(p, what, input.InsertText, input.InsertTextParams{Text: text})
}

// Choose picks an option of a list by its words.
func (p *Page) Choose(label, option string) {
	p.t.Helper()
	what := fmt.Sprintf("choosing %q of %q", option, label)
	script := `seen.control(` + quoted(label, p.within) + `)`
	p.reach(what, script)
	p.until(what, func() error {
		return p.try(`(() => { const e = `+script+`; const o = [...e.options].filter((o) => seen.norm(o.text) === `+quoted(option)+`);
			if (o.length !== 1) throw new Error("the options are " + [...e.options].map((o) => o.text).join(", "));
			e.value = o[0].value; e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true})); return true })()`, nil)
	})
}

// Check presses a box until it is checked, or not.
func (p *Page) Check(label string, on bool) {
	p.t.Helper()
	script := `seen.control(` + quoted(label, p.within) + `)`
	what := fmt.Sprintf("checking %q", label)
	at := p.reach(what, script)
	if p.Checked(label) == on {
		return
	}
	p.do(what, chromedp.MouseClickXY(at.X, at.Y))
	if p.Checked(label) != on {
		p.t.Fatalf("%s: pressing it changes nothing", what)
	}
}

// Checked reports whether a box is.
func (p *Page) Checked(label string) bool {
	p.t.Helper()
	var on bool
	p.eval(`seen.control(`+quoted(label, p.within)+`).checked`, &on)
	return on
}

// Value is what is in a field.
func (p *Page) Value(label string) string {
	p.t.Helper()
	var value string
	p.eval(`seen.control(`+quoted(label, p.within)+`).value`, &value)
	return value
}

// Browse chooses a file of this machine for a field.
func (p *Page) Browse(label, file string) {
	p.t.Helper()
	what := fmt.Sprintf("choosing a file for %q", label)
	script := `seen.control(` + quoted(label, p.within) + `)`
	p.reach(what, script)
	p.do(what, chromedp.SetUploadFiles(chromedp.JSPath(script), []string{file}))
}

// Beside is what is told as wrong beside a field; "" for nothing.
func (p *Page) Beside(label string) string {
	p.t.Helper()
	var text string
	p.eval(`seen.beside(seen.control(`+quoted(label, p.within)+`))`, &text)
	return text
}

// Text is what the page or the part shows.
func (p *Page) Text() string {
	p.t.Helper()
	var text string
	p.until("reading", func() error { return p.try(`seen.text(`+quoted(p.within)+`)`, &text) })
	return text
}

// Sees waits until all words are shown.
func (p *Page) Sees(words ...string) {
	p.t.Helper()
	p.until(fmt.Sprintf("looking for %q", words), func() error {
		var text string
		if err := p.try(`seen.text(`+quoted(p.within)+`)`, &text); err != nil {
			return err
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%q is not shown", w)
			}
		}
		return nil
	})
}

// Icon waits for an icon by its name for those who hear the page.
func (p *Page) Icon(label string) {
	p.t.Helper()
	p.until(fmt.Sprintf("looking for the icon %q", label), func() error {
		var found []string
		root := `document`
		if p.within != "" {
			root = `[...document.querySelectorAll("tbody tr")].find((r) => [...r.cells].some((c) => seen.words(c) === ` + quoted(p.within) + `))`
		}
		if err := p.try(`[...`+root+`.querySelectorAll("svg[role=img]")].filter(seen.shown).map((e) => e.getAttribute("aria-label"))`, &found); err != nil {
			return err
		}
		for _, f := range found {
			if strings.Contains(f, label) {
				return nil
			}
		}
		return fmt.Errorf("the icons are %q", found)
	})
}

// Keys types keys, as kb names those that are no letters, into what has the
// focus.
func (p *Page) Keys(keys string) {
	p.t.Helper()
	p.do("typing", chromedp.KeyEvent(keys))
}

// Submit types Enter and waits for the next page.
func (p *Page) Submit() {
	p.t.Helper()
	p.leave("Enter", func() { p.Keys(kb.Enter) })
}

// Focus is the label of what has the focus.
func (p *Page) Focus() string {
	p.t.Helper()
	var label string
	p.eval(`(() => { const e = document.activeElement; return e.labels && e.labels.length ? seen.norm((e.labels[0].querySelector(":scope > span") || e.labels[0]).innerText) : seen.words(e) })()`, &label)
	return label
}

// Download presses a link that leads to a file, and returns its name and
// content.
func (p *Page) Download(label string) (string, []byte) {
	p.t.Helper()
	ctx, end := context.WithTimeout(p.ctx, Patience)
	defer end()
	began, done := make(chan *browser.EventDownloadWillBegin, 1), make(chan string, 1)
	what := fmt.Sprintf("downloading %q", label)
	err := chromedp.ListenBrowser(ctx, func(event any) {
		switch e := event.(type) {
		case *browser.EventDownloadWillBegin:
			began <- e
		case *browser.EventDownloadProgress:
			if e.State == browser.DownloadProgressStateCompleted {
				done <- e.GUID
			}
		}
	})
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	at := p.reach(what, `seen.pressable(`+quoted(label, p.within)+`)`)
	p.do(what, chromedp.MouseClickXY(at.X, at.Y))
	var name string
	select {
	case e := <-began:
		name = e.SuggestedFilename
	case <-ctx.Done():
		p.t.Fatalf("%s: nothing came", what)
	}
	select {
	case guid := <-done:
		content, err := os.ReadFile(filepath.Join(p.browser.files, guid))
		if err != nil {
			p.t.Fatalf("%s: %v", what, err)
		}
		return name, content
	case <-ctx.Done():
		p.t.Fatalf("%s: it did not end", what)
	}
	return "", nil
}
