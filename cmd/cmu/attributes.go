package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// chosen returns the object that -handle names, or that is asked for.
func (t *tool) chosen(ctx context.Context, s *session, o options, prompt string) (*entry, error) {
	inv, err := s.inventory(ctx, nil)
	if err != nil {
		return nil, err
	}
	handle := o.number("handle", 0)
	if !o.has("handle") {
		answer, err := t.con.ask(prompt)
		if err != nil {
			return nil, &fixError{err, "give -handle="}
		}
		if handle, err = strconv.ParseUint(answer, 10, 64); err != nil {
			return nil, &usageError{fmt.Sprintf("%q is no handle", answer)}
		}
	}
	return inv.byHandle(handle)
}

// getAttribute is `cmu getattribute`.
func (t *tool) getAttribute(ctx context.Context, o options) error {
	var only client.AttributeType
	if o.has("attribute") {
		var err error
		if only, err = attributeOf(o.text("attribute")); err != nil {
			return err
		}
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	e, err := t.chosen(ctx, s, o, promptObject)
	if err != nil {
		return err
	}
	attributes := e.Attributes
	if only != 0 {
		value, has := attributes.Get(only)
		if !has {
			return fmt.Errorf("%s has no %v", e.words(), only)
		}
		attributes = client.NewTemplate(client.BytesAttr(only, value))
	}
	if o.flag("json", false) {
		return t.con.printJSON(attributeValues(attributes))
	}
	for _, a := range attributes {
		t.con.printf("%s=%s\n", a.Type, attributeWords(attributes, a))
	}
	return nil
}

// setAttribute is `cmu setattribute`.
func (t *tool) setAttribute(ctx context.Context, o options) error {
	template, err := changesOf(o)
	if err != nil {
		return err
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	e, err := t.chosen(ctx, s, o, promptObject)
	if err != nil {
		return err
	}
	if err := s.SetAttributes(ctx, e.ID, template); err != nil {
		return fmt.Errorf("changing handle=%d: %w", e.handle, err)
	}
	t.con.printf("Changed: %s\n", e.words())
	for _, a := range template {
		t.con.printf("  %s=%s\n", a.Type, attributeWords(template, a))
	}
	return nil
}

// changesOf is what setattribute changes: options of their own for what people
// change, or -attribute and -value for anything.
func changesOf(o options) (client.Template, error) {
	var changes []client.Attribute
	for _, c := range []struct {
		option string
		typ    client.AttributeType
	}{{"label", client.AttrLabel}, {"id", client.AttrID}, {"startDate", object.AttrStartDate}, {"endDate", object.AttrEndDate}} {
		if !o.has(c.option) {
			continue
		}
		a, err := parseAttribute(c.typ, "-"+c.option, o.text(c.option))
		if err != nil {
			return nil, err
		}
		changes = append(changes, a)
	}
	if o.has("attribute") != o.has("value") {
		return nil, &usageError{"-attribute and -value go together"}
	}
	if o.has("attribute") {
		typ, err := attributeOf(o.text("attribute"))
		if err != nil {
			return nil, err
		}
		a, err := parseAttribute(typ, "-value", o.text("value"))
		if err != nil {
			return nil, err
		}
		changes = append(changes, a)
	}
	if len(changes) == 0 {
		return nil, &usageError{"nothing to change: give -label, -id, -startDate, -endDate, or -attribute and -value"}
	}
	return client.NewTemplate(changes...), nil
}

// attributeOf finds an attribute by its name, with or without CKA_, or its
// number.
func attributeOf(name string) (client.AttributeType, error) {
	if n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(name), "0x"), 16, 32); err == nil && strings.HasPrefix(strings.ToLower(name), "0x") {
		if _, known := client.AttributeType(n).Kind(); known {
			return client.AttributeType(n), nil
		}
	}
	var names []string
	for _, typ := range object.AttributeTypes() {
		full := typ.String()
		_, short, _ := strings.Cut(full, "_")
		if strings.EqualFold(name, full) || strings.EqualFold(name, short) {
			return typ, nil
		}
		names = append(names, short)
	}
	near := nearest(name, names)
	if near != "" {
		near = "CKA_" + near
	}
	return 0, &usageError{fmt.Sprintf("-attribute=%s; %s", name, suggestion("", near, "cmu getattribute -handle=N"))}
}

// parseAttribute reads a value as attributeWords writes it.
func parseAttribute(typ client.AttributeType, option, value string) (client.Attribute, error) {
	kind, _ := typ.Kind()
	switch kind {
	case object.KindBool:
		v, is := truth(value)
		if !is {
			return client.Attribute{}, &usageError{fmt.Sprintf("%s=%s; expected T or F", option, value)}
		}
		return client.BoolAttr(typ, v == "T"), nil
	case object.KindNumber:
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return client.Attribute{}, &usageError{fmt.Sprintf("%s=%s; expected a number", option, value)}
		}
		return client.NumberAttr(typ, n), nil
	case object.KindText:
		return client.TextAttr(typ, value), nil
	case object.KindDate:
		if strings.EqualFold(value, "none") {
			return object.Date(typ, time.Time{}), nil
		}
		day, err := time.Parse("20060102", value)
		if err != nil {
			return client.Attribute{}, &usageError{fmt.Sprintf("%s=%s; expected a day as YYYYMMDD, or none", option, value)}
		}
		return object.Date(typ, day), nil
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(strings.ReplaceAll(value, ":", ""), "0x"))
	if err != nil {
		return client.Attribute{}, &usageError{fmt.Sprintf("%s=%s; expected bytes in hexadecimal", option, value)}
	}
	return client.BytesAttr(typ, raw), nil
}

// attributeWords shows a value: a word where it is one, else a number or
// hexadecimal.
func attributeWords(t client.Template, a client.Attribute) string {
	n, _ := t.Number(a.Type)
	switch a.Type {
	case client.AttrClass:
		return client.Class(n).String()
	case client.AttrKeyType:
		return object.KeyType(n).String()
	case object.AttrKeyGenMechanism:
		return client.MechanismType(n).String()
	case client.AttrCreated:
		return time.Unix(int64(n), 0).UTC().Format(time.RFC3339)
	}
	kind, _ := a.Type.Kind()
	switch kind {
	case object.KindBool:
		if t.Bool(a.Type) {
			return "T"
		}
		return "F"
	case object.KindNumber:
		return strconv.FormatUint(n, 10)
	case object.KindText:
		return shown(t.Text(a.Type))
	case object.KindDate:
		if len(a.Value) == 0 {
			return "none"
		}
		if strings.IndexFunc(string(a.Value), func(r rune) bool { return !unicode.IsDigit(r) }) < 0 {
			return string(a.Value)
		}
	}
	return hex.EncodeToString(a.Value)
}
