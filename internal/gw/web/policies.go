package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/plane"
)

// Policies > Decryption, and what if.

const (
	rulesPage  = "/policies/decryption"
	whatIfPage = "/policies/test"
	rulesPath  = config.VsysPath + "/rulebase/decryption/rules"
)

func policyRoutes() []route {
	return []route{
		{"GET " + rulesPage, func(v *visit) error { return v.showRules(0, nil) }},
		{"GET " + rulesPage + "/add", func(v *visit) error { return v.ruleDialog(0, "", nil) }},
		{"POST " + rulesPage + "/add", func(v *visit) error { return saveRule(v, "") }},
		{"GET " + rulesPage + "/edit/{name}", func(v *visit) error { return v.ruleDialog(0, v.r.PathValue("name"), nil) }},
		{"POST " + rulesPage + "/edit/{name}", func(v *visit) error { return saveRule(v, v.r.PathValue("name")) }},
		{"POST " + rulesPage + "/act/{name}", actOnRule},
		{"POST " + rulesPage + "/reset", resetHits},
		{"GET " + whatIfPage, whatIf},
	}
}

// rule is one as the list shows it.
type rule struct {
	At       int // from 1
	Name     string
	Disabled bool
	Type     string
	Source, Destination,
	Hosts, Services, Certificates string
	Action, Profile string
	Hits            uint64
	LastHit         string
	First, Last     bool
}

const rulesPerPage = 100

type rulesData struct {
	Rules       []rule
	Total       int
	From        int // of the first that is shown, from 0
	Filter      string
	Unmatched   uint64
	May, MayHit bool
	Token       string
}

func (v *visit) rulesData() (rulesData, error) {
	q := v.r.URL.Query()
	d := rulesData{May: v.may(admin.OpEditConfig), MayHit: v.may(admin.OpResetCounters), Token: v.s.token, Filter: strings.ToLower(strings.TrimSpace(q.Get("filter")))}
	d.From, _ = strconv.Atoi(q.Get("from")) // what is no number is the beginning
	d.From = max(0, d.From)
	list, err := v.candidate(rulesPath)
	if err != nil {
		return d, err
	}
	hits, err := v.m().RuleHits(v.ctx(), v.who())
	if err != nil {
		return d, err
	}
	count := map[string]plane.Hit{}
	for _, h := range hits {
		if h.Rule == "" {
			d.Unmatched += h.Count
			continue
		}
		count[h.Rule] = h
	}
	entries := list.entries()
	shown := 0
	for i, e := range entries {
		if d.Filter != "" && !matches(e, d.Filter) {
			continue
		}
		if shown++; shown <= d.From || shown > d.From+rulesPerPage {
			continue
		}
		hit := count[e.name()]
		r := ruleOf(e)
		r.At, r.First, r.Last, r.Hits, r.LastHit = i+1, i == 0, i == len(entries)-1, hit.Count, stampOf(hit.Last)
		d.Rules = append(d.Rules, r)
	}
	d.Total = shown
	return d, nil
}

func ruleOf(e tree) rule {
	any := func(name string) string {
		list := e.at(name).members()
		if len(list) == 0 {
			return "any"
		}
		text := strings.Join(list, ", ")
		if e.text("negate-"+name) == "yes" {
			text = "not " + text
		}
		return text
	}
	r := rule{
		Name: e.name(), Disabled: e.text("disabled") == "yes", Type: "SSL Forward Proxy", Source: any("source"), Destination: any("destination"),
		Hosts: any("destination-host"), Services: any("service"), Action: e.text("action"), Profile: e.or("default", "profile"),
	}
	if inbound := e.at("type", "ssl-inbound-inspection"); inbound.there() {
		r.Type, r.Certificates = "SSL Inbound Inspection", strings.Join(inbound.at("certificates").members(), ", ")
	}
	return r
}

func matches(e tree, filter string) bool {
	if strings.Contains(strings.ToLower(e.name()), filter) || strings.Contains(strings.ToLower(e.text("description")), filter) || e.text("action") == filter {
		return true
	}
	for _, list := range []string{"source", "destination", "destination-host", "service"} {
		if slices.ContainsFunc(e.at(list).members(), func(m string) bool { return strings.Contains(strings.ToLower(m), filter) }) {
			return true
		}
	}
	return false
}

func (v *visit) showRules(status int, over templ.Component) error {
	d, err := v.rulesData()
	if err != nil {
		return err
	}
	return v.page(Page{Title: "Decryption", Path: rulesPage, Status: status}, rulesView(d, over))
}

// ruleForm is the schema's, but for the type, which is a choice with the
// certificates of one of its kinds.
func (v *visit) ruleGroups() ([]settingGroup, config.Row, error) {
	row, err := config.Lookup(rulesPath + "/entry")
	if err != nil {
		return nil, row, err
	}
	groups, err := v.settingsAt(rulesPath+"/entry", "type", "from", "to", "source-user", "category", "disabled")
	return groups, row, err
}

func (v *visit) ruleDialog(status int, name string, f *Form) error {
	groups, row, err := v.ruleGroups()
	if err != nil {
		return err
	}
	if f == nil {
		f = blank("name", name, "type", "ssl-forward-proxy")
		at := tree{}
		if name != "" {
			if at, err = v.existing("rule", rulesPath, name); err != nil {
				return err
			}
			f.values.Set(seen, mark(at))
		}
		fill(f, groups, at, row)
		if name == "" {
			f.values.Set("action", "decrypt")
		}
		f.values.Set("disabled", at.or("no", "disabled"))
		if inbound := at.at("type", "ssl-inbound-inspection"); inbound.there() {
			f.values.Set("type", "ssl-inbound-inspection")
			f.values.Set("certificates", strings.Join(inbound.at("certificates").members(), "\n"))
		}
	}
	certificates, err := v.m().CertificateNames(v.ctx(), v.who())
	if err != nil {
		return err
	}
	return v.showRules(status, ruleForm(v.s.token, f, groups, name, certificates))
}

func saveRule(v *visit, name string) error {
	groups, row, err := v.ruleGroups()
	if err != nil {
		return err
	}
	f := v.form
	now := f.Needed("name")
	at := tree{}
	if name != "" {
		if at, err = v.existing("rule", rulesPath, name); err != nil {
			return err
		}
		f.Unchanged(at)
	}
	entry := build(f, "entry", groups, row, at, "from", "to", "source-user", "category")
	entry.Entry = now
	kind := element("type", element("ssl-forward-proxy"))
	if f.Text("type") == "ssl-inbound-inspection" {
		kind = element("type", element("ssl-inbound-inspection", memberList("certificates", f.Lines("certificates"))))
	}
	entry.Children = append(entry.Children, kind)
	if f.Checked("disabled") {
		entry.Children = append(entry.Children, leaf("disabled", "yes"))
	}
	if f.OK() {
		var edits []config.Edit
		switch {
		case name == "":
			if there, err := v.candidate(rulesPath + "/" + config.EntryStep(now)); err == nil && there.there() {
				f.Fail("name", "there is a rule of that name")
			}
			edits = []config.Edit{{Op: config.OpSet, Path: rulesParent, Elements: []*config.Node{element("rules", entry)}}}
		default:
			if now != name {
				edits = append(edits, config.Edit{Op: config.OpRename, Path: rulesPath + "/" + config.EntryStep(name), NewName: now})
			}
			edits = append(edits, config.Edit{Op: config.OpEdit, Path: rulesPath + "/" + config.EntryStep(now), Elements: []*config.Node{entry}})
		}
		if f.OK() {
			fields := settingErrors(groups)
			fields["/"+config.EntryStep(now)], fields["/certificates"] = "name", "certificates"
			f.Take(v.m().Change(v.ctx(), v.who(), edits...), fields)
		}
	}
	if !f.OK() {
		return v.ruleDialog(http.StatusUnprocessableEntity, name, f)
	}
	return v.done(rulesPage, "Rule "+now+" was saved. Commit to use it.")
}

const rulesParent = config.VsysPath + "/rulebase/decryption"

// maxRuleName is of a rule's name, which is ASCII.
const maxRuleName = 63

// actOnRule moves, clones, disables or deletes one.
func actOnRule(v *visit) error {
	back := rulesPage // as far in the list as it was
	if v.r.URL.RawQuery != "" {
		back += "?" + v.r.URL.Query().Encode()
	}
	name := v.r.PathValue("name")
	path := rulesPath + "/" + config.EntryStep(name)
	var e config.Edit
	said := "Rule " + name + " was moved. Commit to use it."
	switch act := v.form.Text("act"); act {
	case "up", "down", "top", "bottom":
		list, err := v.candidate(rulesPath)
		if err != nil {
			return err
		}
		var names []string
		for _, r := range list.entries() {
			names = append(names, r.name())
		}
		at := slices.Index(names, name)
		e = config.Edit{Op: config.OpMove, Path: path, Where: act}
		switch {
		case at < 0:
			return missing(v)
		case act == "up" && at > 0:
			e.Where, e.Dst = "before", names[at-1]
		case act == "down" && at < len(names)-1:
			e.Where, e.Dst = "after", names[at+1]
		case act == "up":
			e.Where = "top"
		case act == "down":
			e.Where = "bottom"
		}
	case "clone":
		list, err := v.candidate(rulesPath)
		if err != nil {
			return err
		}
		fresh := ""
		for i := 1; ; i++ {
			end := fmt.Sprintf("-%d", i)
			fresh = name[:min(len(name), maxRuleName-len(end))] + end
			if !slices.ContainsFunc(list.entries(), func(r tree) bool { return r.name() == fresh }) {
				break
			}
		}
		e = config.Edit{Op: config.OpClone, Path: path, NewName: fresh}
		said = "Rule " + name + " was cloned as " + fresh + "."
	case "disable", "enable":
		value := "yes"
		if act == "enable" {
			value = "no"
		}
		e = config.Edit{Op: config.OpSet, Path: path, Elements: []*config.Node{leaf("disabled", value)}}
		said = "Rule " + name + " was " + act + "d. Commit to use it."
	case "delete":
		e = config.Edit{Op: config.OpDelete, Path: path}
		said = "Rule " + name + " was deleted. Commit to be rid of it."
	default:
		return missing(v)
	}
	if err := v.m().Change(v.ctx(), v.who(), e); err != nil {
		return v.sorry(back, err)
	}
	return v.done(back, said)
}

func resetHits(v *visit) error {
	var names []string
	if name := v.form.Text("name"); name != "" {
		names = append(names, name)
	}
	if _, err := v.m().ResetHits(v.ctx(), v.who(), names...); err != nil {
		return v.sorry(rulesPage, err)
	}
	return v.done(rulesPage, "The hit counts were reset.")
}

// at is the page's address from a row on.
func (d rulesData) at(from int) string {
	q := url.Values{}
	if from > 0 {
		q.Set("from", strconv.Itoa(from))
	}
	if d.Filter != "" {
		q.Set("filter", d.Filter)
	}
	if len(q) == 0 {
		return rulesPage
	}
	return rulesPage + "?" + q.Encode()
}

// actAt is where a rule's buttons lead.
func (d rulesData) actAt(name string) string {
	return rulesPage + "/act/" + url.PathEscape(name) + strings.TrimPrefix(d.at(d.From), rulesPage)
}

// tlsOffers are what a client may offer.
var tlsOffers = []struct {
	Choice
	versions []uint16
}{
	{Choice{"", "TLS 1.2 and 1.3"}, nil}, {Choice{"1.3", "TLS 1.3"}, []uint16{0x0304}}, {Choice{"1.2", "TLS 1.2"}, []uint16{0x0303}}, {Choice{"1.1", "TLS 1.1"}, []uint16{0x0302}},
}

// whatIf asks the policy that runs.
func whatIf(v *visit) error {
	q := v.r.URL.Query()
	f := newForm(q)
	var answer *plane.Explanation
	if q.Has("host") {
		query := plane.Query{Kind: flow.Kind(f.Text("kind")), Host: f.Needed("host"), SNI: f.Text("sni")}
		if text := f.Text("client"); text != "" {
			address, err := netip.ParseAddr(text)
			if err != nil {
				f.Fail("client", "%q is no IP address", text)
			}
			query.Client = address
		}
		if text := f.Text("server"); text != "" {
			address, err := netip.ParseAddr(text)
			if err != nil {
				f.Fail("server", "%q is no IP address", text)
			}
			query.Server = address
		}
		if f.Text("port") != "" {
			query.Port = uint16(f.Number("port", 1, 65535))
		}
		for _, o := range tlsOffers {
			if o.Value == f.Text("offer") {
				query.Versions = o.versions
			}
		}
		if f.OK() {
			e, err := v.m().Explain(v.ctx(), v.who(), query)
			if err != nil {
				f.Add(words(err))
			} else {
				answer = &e
			}
		}
	}
	status := 0
	if !f.OK() {
		status = http.StatusUnprocessableEntity
	}
	return v.page(Page{Title: "What if", Path: whatIfPage, Status: status}, whatIfView(f, answer))
}
