package shell

import "unicode/utf8"

// key is one key that was typed: a letter, or what one of the constants says.
type key rune

// Keys beyond the letters. Unicode has no such code points.
const (
	keyNone key = utf8.MaxRune + 1 + iota
	keyEnter
	keyTab
	keyInterrupt // Ctrl-C
	keyEnd       // of input, Ctrl-D
	keyBackspace
	keyDelete
	keyLeft
	keyRight
	keyWordLeft
	keyWordRight
	keyHome
	keyLineEnd
	keyUp
	keyDown
	keyKillRight // Ctrl-K
	keyKillLeft  // Ctrl-U
	keyKillWord  // Ctrl-W
	keyClear     // Ctrl-L
	keySearch    // Ctrl-R
	keyCancel    // Ctrl-G
)

// controls are the control characters that mean something here.
var controls = map[byte]key{
	0x01: keyHome, 0x02: keyLeft, 0x03: keyInterrupt, 0x04: keyEnd, 0x05: keyLineEnd, 0x06: keyRight, 0x07: keyCancel,
	0x08: keyBackspace, '\t': keyTab, '\n': keyEnter, 0x0b: keyKillRight, 0x0c: keyClear, '\r': keyEnter, 0x0e: keyDown,
	0x10: keyUp, 0x12: keySearch, 0x15: keyKillLeft, 0x17: keyKillWord, 0x7f: keyBackspace,
}

// finals are what ends a sequence of the kind ESC [ ... or ESC O (ECMA-48,
// 5.4; the names are xterm's).
var finals = map[byte]key{'A': keyUp, 'B': keyDown, 'C': keyRight, 'D': keyLeft, 'H': keyHome, 'F': keyLineEnd}

// numbered are the sequences ESC [ number ~.
var numbered = map[string]key{"1": keyHome, "3": keyDelete, "4": keyLineEnd, "7": keyHome, "8": keyLineEnd}

// decoder makes keys of a terminal's bytes, one byte at a time. What it does
// not know is passed over as a whole, so that the rest of an unknown key's
// sequence is not taken for letters.
type decoder struct {
	state  decoderState
	buf    []byte // of a letter or a sequence; at most maxSequence
	afterR bool   // the last key was a carriage return: a newline is its second half
}

type decoderState int

const (
	ground   decoderState = iota
	letter                // within UTF-8
	escaped               // after ESC
	sequence              // after ESC [
	single                // after ESC O
)

// maxSequence bounds what is kept of a sequence, not how long one may be.
const maxSequence = 16

// feed takes the next byte. It returns keyNone while a key is not complete, or
// where it means nothing.
func (d *decoder) feed(b byte) key {
	afterR := d.afterR
	d.afterR = false
	switch d.state {
	case letter:
		if utf8.RuneStart(b) { // the letter before was cut off
			d.state = ground
			return d.start(b, afterR)
		}
		d.buf = append(d.buf, b)
		return d.letter()
	case escaped:
		d.state = ground
		switch b {
		case '[':
			d.state, d.buf = sequence, d.buf[:0]
		case 'O':
			d.state = single
		case 0x1b:
			d.state = escaped
		case 'b':
			return keyWordLeft
		case 'f':
			return keyWordRight
		case 0x08, 0x7f:
			return keyKillWord
		case 0x03:
			return keyInterrupt
		}
		return keyNone
	case single:
		d.state = ground
		if k, ok := finals[b]; ok {
			return k
		}
		return keyNone
	case sequence:
		return d.sequence(b)
	}
	return d.start(b, afterR)
}

func (d *decoder) start(b byte, afterR bool) key {
	switch {
	case b == 0x1b:
		d.state = escaped
		return keyNone
	case b == '\n' && afterR:
		return keyNone
	case b < 0x20 || b == 0x7f:
		d.afterR = b == '\r'
		if k, ok := controls[b]; ok {
			return k
		}
		return keyNone
	}
	d.buf = append(d.buf[:0], b)
	return d.letter()
}

// letter returns the letter in buf when it is complete. Bytes that are no UTF-8
// are passed over.
func (d *decoder) letter() key {
	if !utf8.FullRune(d.buf) {
		d.state = letter
		return keyNone
	}
	d.state = ground
	if r, size := utf8.DecodeRune(d.buf); r != utf8.RuneError || size > 1 {
		return key(r)
	}
	return keyNone
}

func (d *decoder) sequence(b byte) key {
	switch {
	case b == 0x1b:
		d.state = escaped
		return keyNone
	case b == 0x03:
		d.state = ground
		return keyInterrupt
	case b < 0x40 || b > 0x7e: // a parameter, or noise
		if len(d.buf) < maxSequence {
			d.buf = append(d.buf, b)
		}
		return keyNone
	}
	d.state = ground
	parameters := string(d.buf)
	if b == '~' {
		if k, ok := numbered[parameters]; ok {
			return k
		}
		return keyNone
	}
	if parameters == "1;5" || parameters == "1;3" { // with Ctrl or Alt
		switch b {
		case 'C':
			return keyWordRight
		case 'D':
			return keyWordLeft
		}
	}
	if k, ok := finals[b]; ok {
		return k
	}
	return keyNone
}
