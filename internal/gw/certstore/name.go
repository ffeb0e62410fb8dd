package certstore

import (
	"bytes"
	"crypto/sha1"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// attribute is one part of a distinguished name.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// parseName reads a name in DER: a list of sets of attributes.
func parseName(der []byte) ([][]attribute, error) {
	var sets []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &sets); err != nil || len(rest) > 0 {
		return nil, errors.New("the name is damaged")
	}
	var name [][]attribute
	for _, s := range sets {
		var set []attribute
		if s.Tag != asn1.TagSet || !s.IsCompound {
			return nil, errors.New("the name is damaged")
		}
		for rest := s.Bytes; len(rest) > 0; {
			var a attribute
			var err error
			if rest, err = asn1.Unmarshal(rest, &a); err != nil {
				return nil, errors.New("the name is damaged")
			}
			set = append(set, a)
		}
		name = append(name, set)
	}
	return name, nil
}

// NameHash is what `openssl x509 -subject_hash` prints of a name in DER: the
// first four bytes of the SHA-1 of its canonical form, as a little-endian
// number. It names files, and protects nothing.
func NameHash(der []byte) (string, error) {
	name, err := parseName(der)
	if err != nil {
		return "", err
	}
	h := sha1.New()
	for _, set := range name {
		var members [][]byte
		for _, a := range set {
			value := a.Value.FullBytes
			if text, is := a.text(); is {
				if value, err = asn1.Marshal(asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: canonical(text)}); err != nil {
					return "", fmt.Errorf("encoding a name: %w", err)
				}
			}
			member, err := asn1.Marshal(attribute{a.Type, asn1.RawValue{FullBytes: value}})
			if err != nil {
				return "", fmt.Errorf("encoding a name: %w", err)
			}
			members = append(members, member)
		}
		slices.SortFunc(members, bytes.Compare) // as DER has sets
		encoded, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: slices.Concat(members...)})
		if err != nil {
			return "", fmt.Errorf("encoding a name: %w", err)
		}
		h.Write(encoded)
	}
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(h.Sum(nil))), nil
}

// The types of strings that encoding/asn1 has no name for.
const (
	tagVisible   = 26
	tagUniversal = 28
)

// text is a value in UTF-8, where it is of a type that OpenSSL compares as text.
func (a attribute) text() ([]byte, bool) {
	v := a.Value
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return nil, false
	}
	var out []byte
	switch v.Tag {
	case asn1.TagUTF8String:
		return v.Bytes, utf8.Valid(v.Bytes)
	case asn1.TagPrintableString, asn1.TagIA5String, tagVisible, asn1.TagT61String:
		for _, b := range v.Bytes { // Latin-1, whatever T.61 says
			out = utf8.AppendRune(out, rune(b))
		}
		return out, true
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return nil, false
		}
		var units []uint16
		for i := 0; i < len(v.Bytes); i += 2 {
			units = append(units, binary.BigEndian.Uint16(v.Bytes[i:]))
		}
		return []byte(string(utf16.Decode(units))), true
	case tagUniversal:
		if len(v.Bytes)%4 != 0 {
			return nil, false
		}
		for i := 0; i < len(v.Bytes); i += 4 {
			out = utf8.AppendRune(out, rune(binary.BigEndian.Uint32(v.Bytes[i:])))
		}
		return out, true
	}
	return nil, false
}

// canonical takes white space from both ends, makes one space of it elsewhere
// and lower case of ASCII (OpenSSL's crypto/x509/x_name.c, asn1_string_canon).
func canonical(text []byte) []byte {
	space := func(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }
	out := make([]byte, 0, len(text))
	for _, b := range text {
		switch {
		case space(b):
			if len(out) > 0 && out[len(out)-1] != ' ' {
				out = append(out, ' ')
			}
		case b >= 'A' && b <= 'Z':
			out = append(out, b+'a'-'A')
		default:
			out = append(out, b)
		}
	}
	return bytes.TrimSuffix(out, []byte(" "))
}

// shortNames are OpenSSL's, of what subjects hold.
var shortNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST",
	"2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.13": "description",
	"2.5.4.15": "businessCategory", "2.5.4.17": "postalCode", "2.5.4.41": "name", "2.5.4.42": "GN", "2.5.4.43": "initials",
	"2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym", "2.5.4.97": "organizationIdentifier",
	"1.2.840.113549.1.9.1": "emailAddress", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
	"1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL", "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST", "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}

// NameText is a name in DER on one line, /C=DE/CN=name, as `openssl x509
// -subject -nameopt compat` prints it: what is not printable ASCII is escaped.
func NameText(der []byte) (string, error) {
	name, err := parseName(der)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, set := range name {
		for i, a := range set {
			id := a.Type.String()
			if short, known := shortNames[id]; known {
				id = short
			}
			separator := "/"
			if i > 0 {
				separator = "+"
			}
			b.WriteString(separator + id + "=")
			for _, c := range a.Value.Bytes {
				switch {
				case c < ' ' || c > '~':
					fmt.Fprintf(&b, `\x%02X`, c)
				case c == '/' || c == '+':
					b.WriteString(`\` + string(c))
				default:
					b.WriteByte(c)
				}
			}
		}
	}
	return b.String(), nil
}
