// Package wire turns the messages of the HSM's client protocol into bytes and
// back, as docs/wire.md specifies them. It is strict, bounded and canonical:
// each message has one encoding, whatever differs from it is refused, and no
// length is believed before it is compared with its limit.
//
// A frame is read with Reader, its header split off by ParseRequest or
// ParseAnswer, and its body decoded by the message's Decode. Each message's
// Append makes its body; Append functions believe their caller and never fail,
// so that a sender over a limit is refused by its peer. Decoded slices alias
// the frame.
package wire
