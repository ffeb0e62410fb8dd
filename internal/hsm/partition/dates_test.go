package partition

import (
	"strings"
	"testing"
	"time"

	"moongate/internal/hsm/object"
)

func day(text string) time.Time {
	at, err := time.Parse(dayLayout, text)
	if err != nil {
		panic(err)
	}
	return at
}

func dated(start, end string) object.Template {
	var t object.Template
	for typ, text := range map[object.AttributeType]string{object.AttrStartDate: start, object.AttrEndDate: end} {
		if text != "" {
			t = t.With(object.Bytes(typ, []byte(strings.ReplaceAll(text, "-", ""))))
		}
	}
	return t
}

// TestLife: whole days in UTC, both ends included, wherever the clock is.
func TestLife(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("east", 14*3600)
	for _, test := range []struct {
		start, end string
		now        time.Time
		sign       bool
		verify     bool
	}{
		{"", "", day("2026-05-01"), true, true},
		{"2026-05-01", "", day("2026-05-01").Add(-time.Nanosecond), false, false},
		{"2026-05-01", "", day("2026-05-01"), true, true},
		{"2026-05-01", "", day("2026-05-01").In(east), true, true},
		{"2026-05-01", "", day("2026-05-01").Add(-time.Second).In(east), false, false},
		{"", "2026-05-01", day("2026-05-02").Add(-time.Nanosecond), true, true},
		{"", "2026-05-01", day("2026-05-02"), false, true},
		{"2026-05-01", "2026-05-01", day("2026-05-01").Add(12 * time.Hour), true, true},
		{"2026-05-01", "2026-05-03", day("2026-05-04"), false, true},
		{"", "0001-01-01", day("2026-05-04"), false, true},
	} {
		l := lifeOf(dated(test.start, test.end))
		for act, want := range map[action]bool{
			actSign: test.sign, actEncrypt: test.sign, actDecrypt: test.sign, actWrap: test.sign, actUnwrap: test.sign, actDerive: test.sign,
			actVerify: test.verify,
		} {
			err := l.check(act, test.now)
			if (err == nil) != want {
				t.Errorf("%s from %q to %q at %v: %v", act, test.start, test.end, test.now, err)
			}
			if err != nil {
				wantCode(t, err, object.ErrKeyDate)
				for _, text := range []string{test.start, test.end, test.now.UTC().Format(dayLayout)} {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%q does not name %s", err, text)
					}
				}
			}
		}
	}
}

// TestDatesStopEachUse of keys of every class, through the session.
func TestDatesStopEachUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	today := w.clock.Now().UTC().Truncate(24 * time.Hour)
	dates := dated("", today.Format(dayLayout))
	generate := func(m object.Mechanism, public, private object.Template) (object.ID, object.ID) {
		pub, id, err := s.Generate(ctx, newOp(), m, public.Merge(dates), private.Merge(dates))
		must(t, err)
		return pub, id
	}
	pub, sign := generate(ec, p256, nil)
	_, secret := generate(aes, nil, secretTemplate(32, object.AttrEncrypt, object.AttrDecrypt))
	_, by := generate(aes, nil, secretTemplate(32, object.AttrWrap, object.AttrUnwrap))
	_, base := generate(object.Mechanism{Type: object.MechGenericSecretGen}, nil, secretTemplate(32, object.AttrDerive))
	_, mac := generate(aes, nil, secretTemplate(32, object.AttrSign, object.AttrVerify))
	target := w.secret(s, 16, object.AttrExtractable)
	cmac := object.Mechanism{Type: object.MechAESCMAC}
	signature, err := recorded(s).Sign(ctx, newOp(), sign, ecdsa256, make([]byte, 32))
	must(t, err)
	tag, err := recorded(s).Sign(ctx, newOp(), mac, cmac, nil)
	must(t, err)
	sealed, err := recorded(s).Encrypt(ctx, newOp(), secret, gcm, []byte("x"))
	must(t, err)
	wrapped, err := s.Wrap(ctx, newOp(), by, target, kwp)
	must(t, err)
	acts := map[string]func() error{
		"sign":    func() error { _, err := recorded(s).Sign(ctx, newOp(), sign, ecdsa256, make([]byte, 32)); return err },
		"mac":     func() error { _, err := recorded(s).Sign(ctx, newOp(), mac, cmac, nil); return err },
		"encrypt": func() error { _, err := recorded(s).Encrypt(ctx, newOp(), secret, gcm, []byte("x")); return err },
		"decrypt": func() error { _, err := recorded(s).Decrypt(ctx, newOp(), secret, gcm, sealed); return err },
		"wrap":    func() error { _, err := s.Wrap(ctx, newOp(), by, target, kwp); return err },
		"unwrap": func() error {
			_, err := s.Unwrap(ctx, newOp(), by, kwp, wrapped, ofKind(object.ClassSecretKey, object.KeyAES))
			return err
		},
		"derive": func() error {
			_, err := s.Derive(ctx, newOp(), base, object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256},
				ofKind(object.ClassSecretKey, object.KeyAES).Merge(secretTemplate(32)))
			return err
		},
	}
	for name, do := range acts {
		if err := do(); err != nil {
			t.Errorf("%s on the last day: %v", name, err)
		}
	}
	w.clock.advance(24 * time.Hour)
	for name, do := range acts {
		if err := do(); object.CodeOf(err) != object.ErrKeyDate {
			t.Errorf("%s the day after: %v", name, err)
		} else if last := w.lastRecord(); last.Outcome != object.ErrKeyDate.String() {
			t.Errorf("%s the day after was recorded as %+v", name, last)
		}
	}
	must(t, s.Verify(ctx, newOp(), pub, ecdsa256, make([]byte, 32), signature))
	must(t, s.Verify(ctx, newOp(), mac, cmac, nil, tag))

	// A later end date brings a key back, an empty one for good.
	must(t, s.SetAttributes(ctx, newOp(), sign, dated("", today.Add(24*time.Hour).Format(dayLayout))))
	must(t, acts["sign"]())
	if last := w.lastRecord(); last.Action != "key.sign" {
		t.Errorf("last record: %+v", last)
	}
	w.clock.advance(24 * time.Hour)
	wantCode(t, acts["sign"](), object.ErrKeyDate)
	must(t, s.SetAttributes(ctx, newOp(), sign, object.New(object.Date(object.AttrEndDate, time.Time{}))))
	must(t, acts["sign"]())

	// Before its start a key does not even verify.
	must(t, s.SetAttributes(ctx, newOp(), pub, object.New(object.Date(object.AttrEndDate, time.Time{})).
		With(object.Date(object.AttrStartDate, w.clock.Now().Add(24*time.Hour)))))
	wantCode(t, s.Verify(ctx, newOp(), pub, ecdsa256, make([]byte, 32), signature), object.ErrKeyDate)
}

// TestDatesLeaveADay: start after end is refused wherever it could come to be.
func TestDatesLeaveADay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	wrong := dated("2026-05-02", "2026-05-01")
	_, _, err := s.Generate(ctx, newOp(), ec, p256, wrong)
	wantCode(t, err, object.ErrTemplateInconsist)
	_, _, err = s.Generate(ctx, newOp(), ec, p256.Merge(wrong), nil)
	wantCode(t, err, object.ErrTemplateInconsist)
	_, err = w.trySecret(s, 32)
	must(t, err)
	pub, id, err := s.Generate(ctx, newOp(), ec, p256, dated("2026-05-02", "2026-05-02"))
	must(t, err)
	wantCode(t, s.SetAttributes(ctx, newOp(), id, dated("", "2026-05-01")), object.ErrTemplateInconsist)
	wantCode(t, s.SetAttributes(ctx, newOp(), id, dated("2026-05-03", "")), object.ErrTemplateInconsist)
	must(t, s.SetAttributes(ctx, newOp(), id, dated("2026-05-03", "2026-05-04")))
	info, err := s.Attributes(ctx, newOp(), pub, []object.AttributeType{object.AttrPublicKeyInfo})
	must(t, err)
	_, err = s.Store(ctx, newOp(), info.Merge(wrong).With(object.Number(object.AttrClass, uint64(object.ClassPublicKey))))
	wantCode(t, err, object.ErrTemplateInconsist)
	if n := len(s.p.objects); n != 3 {
		t.Errorf("%d objects, want 3: refused ones were kept", n)
	}
}
