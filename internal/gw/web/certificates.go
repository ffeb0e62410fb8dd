package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// Device > Certificate Management > Certificates > Device Certificates.

const certificatesPage = "/device/certificates"

func certificateRoutes() []route {
	show := func(over func(certificatesData, *Form) templ.Component) func(*visit) error {
		return func(v *visit) error {
			return v.showCertificates(0, over, blank("format", "pem", "algorithm", "RSA", "days", "365"))
		}
	}
	return []route{
		{"GET " + certificatesPage, show(nil)},
		{"GET " + certificatesPage + "/import", show(importForm)},
		{"POST " + certificatesPage + "/import", importCertificate},
		{"GET " + certificatesPage + "/generate", show(generateForm)},
		{"POST " + certificatesPage + "/generate", generateCertificate},
		{"GET " + certificatesPage + "/show/{name}", func(v *visit) error { return v.showCertificate(0, nil) }},
		{"POST " + certificatesPage + "/show/{name}", saveCertificate},
		{"GET " + certificatesPage + "/export/{name}", func(v *visit) error { return v.showExport(0, blank("format", "pem")) }},
		{"POST " + certificatesPage + "/export/{name}", exportCertificate},
		{"POST " + certificatesPage + "/renew/{name}", renewCertificate},
		{"POST " + certificatesPage + "/revoke/{name}", revokeCertificate},
		{"POST " + certificatesPage + "/delete/{name}", deleteCertificate},
		{"POST " + certificatesPage + "/test/{name}", testKey},
	}
}

type certificatesData struct {
	List  []mgmt.CertificateState
	Use   map[string][]string // by name: badges
	Cause string              // why the HSM cannot be asked; "" where it can
	May   bool
	MayX  bool // export private keys
	Test  bool
	Token string
	Now   time.Time
}

const decryptPath = config.SharedPath + "/ssl-decrypt"

// trustBoxes are the options of a certificate.
var trustBoxes = []struct{ Field, Label, List string }{
	{"forward-trust", "Forward Trust Certificate", "forward-trust-certificate"},
	{"forward-untrust", "Forward Untrust Certificate", "forward-untrust-certificate"},
	{"trusted-root", "Trusted Root CA", "trusted-root-CA"},
}

func (v *visit) certificatesData() (certificatesData, error) {
	d := certificatesData{May: v.may(admin.OpCertificates), MayX: v.may(admin.OpExportKey), Test: v.may(admin.OpTestKey), Token: v.s.token, Now: v.h.now(), Use: map[string][]string{}}
	var err error
	if d.List, err = v.m().CertificateStates(v.ctx(), v.who()); err != nil {
		return d, err
	}
	decrypt, err := v.candidate(decryptPath)
	if err != nil {
		return d, err
	}
	for _, box := range trustBoxes {
		for _, name := range usersOf(decrypt.at(box.List)) {
			d.Use[name] = append(d.Use[name], box.Label)
		}
	}
	if state, err := v.m().HSMState(v.ctx(), v.who()); err == nil && !state.Ready {
		d.Cause = state.Cause
	}
	return d, nil
}

// usersOf are the names in a list of trust: its members, or its rsa and ecdsa.
func usersOf(list tree) []string {
	names := list.members()
	for _, kind := range []string{"rsa", "ecdsa"} {
		if name := list.text(kind); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (v *visit) showCertificates(status int, over func(certificatesData, *Form) templ.Component, f *Form) error {
	d, err := v.certificatesData()
	if err != nil {
		return err
	}
	var dialog templ.Component
	if over != nil {
		dialog = over(d, f)
	}
	return v.page(Page{Title: "Device Certificates", Path: certificatesPage, Status: status}, certificatesView(d, dialog))
}

func importCertificate(v *visit) error {
	f := v.form
	name := f.Needed("name")
	content, _, err := v.file("file")
	if err != nil {
		return err
	}
	if content == nil {
		f.Fail("file", "choose the certificate's file")
	}
	passphrase := f.Secret("passphrase")
	defer clear(passphrase)
	defer clear(content)
	if f.OK() {
		kind := mgmt.ImportCertificate
		if f.Checked("with-key") {
			kind = mgmt.ImportPair
		}
		err := v.m().ImportCertificate(v.ctx(), v.who(), mgmt.ImportRequest{
			Name: name, Format: f.Text("format"), Data: content, Passphrase: passphrase, KeyOnHSM: f.Checked("on-hsm"), Kind: kind,
		})
		if err == nil {
			return v.done(certificatesPage, "Certificate "+name+" was imported. Commit to use it.")
		}
		text := words(err)
		switch {
		case strings.Contains(text, "on the HSM"):
			f.Fail("on-hsm", "%s", text)
		case strings.Contains(text, "passphrase"):
			f.Fail("passphrase", "%s", text)
		default:
			f.Fail("file", "%s", text)
		}
	}
	return v.showCertificates(http.StatusUnprocessableEntity, importForm, f)
}

func generateCertificate(v *visit) error {
	f := v.form
	req := mgmt.GenerateRequest{
		Name: f.Needed("name"), CommonName: f.Needed("common-name"), Organization: f.Text("organization"), Country: f.Text("country"),
		Algorithm: f.Text("algorithm"), CA: f.Checked("ca"), OnHSM: f.Checked("on-hsm"), SignedBy: f.Text("signed-by"), Days: f.Number("days", 1, 7300), Names: f.Lines("names"),
	}
	if req.Algorithm == "RSA" {
		req.Bits = bitsOf(f.Text("rsa-bits"))
	} else {
		req.Bits = bitsOf(f.Text("ecdsa-bits"))
	}
	if f.OK() {
		err := v.m().GenerateCertificate(v.ctx(), v.who(), req)
		if err == nil {
			return v.done(certificatesPage, "Certificate "+req.Name+" was made. Commit to use it.")
		}
		switch text := words(err); {
		case strings.Contains(text, "common name"):
			f.Fail("common-name", "%s", text)
		case strings.Contains(text, "HSM"):
			f.Fail("on-hsm", "%s", text)
		default:
			f.Take(err, map[string]string{"/" + config.EntryStep(req.Name): "name"})
		}
	}
	return v.showCertificates(http.StatusUnprocessableEntity, generateForm, f)
}

func bitsOf(text string) int {
	var n int
	fmt.Sscan(text, &n) // what is no number is 0, the usual size
	return n
}

// find is the certificate that the address names.
func (d certificatesData) find(name string) (mgmt.CertificateState, error) {
	for _, c := range d.List {
		if c.Name == name {
			return c, nil
		}
	}
	return mgmt.CertificateState{}, &mgmt.Error{Code: mgmt.CodeNotFound, Lines: []string{fmt.Sprintf("there is no certificate %q in the candidate configuration", name)}}
}

func (v *visit) showCertificate(status int, f *Form) error {
	d, err := v.certificatesData()
	if err != nil {
		return err
	}
	c, err := d.find(v.r.PathValue("name"))
	if err != nil {
		return err
	}
	if f == nil {
		f = blank()
		for _, box := range trustBoxes {
			if slices.Contains(d.Use[c.Name], box.Label) {
				f.values.Set(box.Field, "yes")
			}
		}
	}
	return v.page(Page{Title: "Certificate " + c.Name, Path: certificatesPage, Status: status}, certificateView(d, c, f))
}

// saveCertificate makes the boxes what is checked.
func saveCertificate(v *visit) error {
	d, err := v.certificatesData()
	if err != nil {
		return err
	}
	c, err := d.find(v.r.PathValue("name"))
	if err != nil {
		return err
	}
	f := v.form
	var edits []config.Edit
	for _, box := range trustBoxes {
		is, want := slices.Contains(d.Use[c.Name], box.Label), f.Checked(box.Field)
		if is == want {
			continue
		}
		if want && !c.CA {
			f.Fail(box.Field, "%s is no CA's certificate: `cmu selfSign` makes one of a key on the HSM", c.Name)
			continue
		}
		if want && box.Field != "trusted-root" && d.Now.After(c.NotAfter) {
			f.Fail(box.Field, "it expired on %s: make one of the same key that is valid today with `cmu selfSign -startDate=%s -endDate=%s`, export and import it",
				c.NotAfter.UTC().Format(time.DateOnly), d.Now.UTC().Format("20060102"), d.Now.UTC().AddDate(5, 0, 0).Format("20060102"))
			continue
		}
		edits = append(edits, trustEdit(box.List, c, want))
	}
	if f.OK() && len(edits) > 0 {
		f.Take(v.m().Change(v.ctx(), v.who(), edits...), map[string]string{
			"/forward-trust-certificate/rsa": "forward-trust", "/forward-trust-certificate/ecdsa": "forward-trust",
			"/forward-untrust-certificate/rsa": "forward-untrust", "/forward-untrust-certificate/ecdsa": "forward-untrust", "/trusted-root-CA": "trusted-root",
		})
	}
	if !f.OK() {
		return v.showCertificate(http.StatusUnprocessableEntity, f)
	}
	if len(edits) == 0 {
		return v.redirect(certificatesPage)
	}
	return v.done(certificatesPage, "Certificate "+c.Name+" was changed. Commit to use it.")
}

func trustEdit(list string, c mgmt.CertificateState, want bool) config.Edit {
	path := decryptPath + "/" + list
	if list == "trusted-root-CA" {
		if !want {
			return config.Edit{Op: config.OpDelete, Path: path + "/member[text()='" + c.Name + "']"}
		}
		return config.Edit{Op: config.OpSet, Path: decryptPath, Elements: []*config.Node{memberList(list, []string{c.Name})}}
	}
	kind := "rsa"
	if c.Algorithm != "RSA" {
		kind = "ecdsa"
	}
	if !want {
		return config.Edit{Op: config.OpDelete, Path: path + "/" + kind}
	}
	return config.Edit{Op: config.OpSet, Path: decryptPath, Elements: []*config.Node{element(list, leaf(kind, c.Name))}}
}

func (v *visit) showExport(status int, f *Form) error {
	d, err := v.certificatesData()
	if err != nil {
		return err
	}
	c, err := d.find(v.r.PathValue("name"))
	if err != nil {
		return err
	}
	return v.page(Page{Title: "Device Certificates", Path: certificatesPage, Status: status}, certificatesView(d, exportForm(d, c, f)))
}

func exportCertificate(v *visit) error {
	f, name := v.form, v.r.PathValue("name")
	passphrase := f.Secret("passphrase")
	defer clear(passphrase)
	if f.Text("format") == "pkcs10" {
		csr, err := v.m().CSR(v.ctx(), v.who(), name)
		if err != nil {
			f.Add(words(err))
			return v.showExport(http.StatusUnprocessableEntity, f)
		}
		return v.attach("cert_"+name+".csr", "application/pkcs10", csr)
	}
	data, file, err := v.m().ExportCertificate(v.ctx(), v.who(), mgmt.ExportRequest{Name: name, Format: f.Text("format"), IncludeKey: f.Checked("with-key"), Passphrase: passphrase})
	if err != nil {
		f.Add(words(err))
		return v.showExport(http.StatusUnprocessableEntity, f)
	}
	return v.attach(file, "application/octet-stream", data)
}

// actOn does something to the certificate that the address names.
func actOn(v *visit, said string, do func(name string) error) error {
	name := v.r.PathValue("name")
	if err := do(name); err != nil {
		return v.sorry(certificatesPage+"/show/"+url.PathEscape(name), err)
	}
	return v.done(certificatesPage, fmt.Sprintf(said, name))
}

func renewCertificate(v *visit) error {
	return actOn(v, "Certificate %s was renewed. Commit to use it.", func(name string) error {
		return v.m().RenewCertificate(v.ctx(), v.who(), name, bitsOf(v.form.Text("days")))
	})
}

func revokeCertificate(v *visit) error {
	return actOn(v, "Certificate %s was revoked.", func(name string) error { return v.m().RevokeCertificate(v.ctx(), v.who(), name) })
}

func deleteCertificate(v *visit) error {
	return actOn(v, "Certificate %s was deleted. Commit to be rid of it.", func(name string) error {
		return v.m().Change(v.ctx(), v.who(), config.Edit{Op: config.OpDelete, Path: config.SharedPath + "/certificate/" + config.EntryStep(name)})
	})
}

func testKey(v *visit) error {
	return actOn(v, "The private key of %s signs, and the certificate verifies the signature.", func(name string) error { return v.m().TestKey(v.ctx(), v.who(), name) })
}

// keyIcon is what the Key column shows: the icon, its label, and the reason.
func keyIcon(d certificatesData, c mgmt.CertificateState) (name, label string) {
	switch c.Key {
	case "locked":
		return "lock", "The private key is on the HSM"
	case "software":
		return "", "software"
	case "no-key":
		return "", "none"
	case "missing":
		return "error", "The HSM has no private key that belongs to it"
	case "unavailable":
		if d.Cause != "" {
			return "error", "The HSM is not connected: " + d.Cause
		}
		return "error", "The HSM did not answer in time"
	}
	return "error", "The private key cannot be opened"
}
