package wire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"moongate/internal/hsm/object"
)

func frameOf(body []byte) []byte {
	b := append(BeginAnswer(nil, Answer{ID: 1}), body...)
	End(b, 0)
	return b
}

func TestReaderTakesFramesHoweverTheyCome(t *testing.T) {
	t.Parallel()
	var stream []byte
	var want [][]byte
	for _, size := range []int{0, 1, 100, readBuffer - 20, readBuffer, readBuffer + 1, 3 * chunk, MaxFrame - AnswerHeaderSize} {
		frame := frameOf(bytes.Repeat([]byte{byte(size)}, size))
		stream = append(stream, frame...)
		want = append(want, frame[lengthSize:])
	}
	for name, source := range map[string]io.Reader{
		"at once":      bytes.NewReader(stream),
		"in halves":    iotest.HalfReader(bytes.NewReader(stream)),
		"with its end": iotest.DataErrReader(bytes.NewReader(stream)),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := NewReader(source, MaxFrame)
			for i := range want {
				got, err := r.Next()
				if err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
				if !bytes.Equal(got, want[i]) {
					t.Fatalf("frame %d differs", i)
				}
				if cap(got) > 2*len(got)+chunk {
					t.Errorf("frame %d of %d bytes holds %d", i, len(got), cap(got))
				}
			}
			if want, known := map[string]int{"at once": readBuffer, "byte by byte": firstBuffer}[name]; known && len(r.buf) != want {
				t.Errorf("the buffer has %d bytes by then, want %d", len(r.buf), want)
			}
			for range 2 { // a broken stream stays broken
				if _, err := r.Next(); err != io.EOF {
					t.Errorf("at the end: %v, want EOF", err)
				}
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	whole := frameOf([]byte("body"))
	for n := 1; n < len(whole); n++ {
		if _, err := NewReader(bytes.NewReader(whole[:n]), MaxFrame).Next(); err != io.ErrUnexpectedEOF {
			t.Errorf("cut to %d bytes: %v, want unexpected EOF", n, err)
		}
	}
	r := NewReader(bytes.NewReader(whole), 15)
	if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "16 bytes, at most 15") {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := r.Next(); err == nil {
		t.Error("reading on after a refused frame")
	}
}

// A length is believed only as its bytes arrive.
func TestReaderAllocatesAsBytesArrive(t *testing.T) {
	t.Parallel()
	claim := []byte{0, 0x0f, 0xff, 0xff}
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := &Reader{src: bytes.NewReader(claim), buf: make([]byte, 64), limit: MaxFrame}
			r.Next()
		}
	}).AllocedBytesPerOp()
	if allocated > 2*chunk {
		t.Errorf("a length alone made the reader allocate %d bytes", allocated)
	}
}

// Whoever admits a frame sees its beginning before there is memory for it.
func TestReaderAsksBeforeItAllocates(t *testing.T) {
	t.Parallel()
	request := append(BeginRequest(nil, Request{ID: 7, Op: OpSign}), make([]byte, 1000)...)
	End(request, 0)
	short := frameOf([]byte("short"))
	stream := append(append([]byte(nil), request...), short...)
	for name, source := range map[string]io.Reader{"at once": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream))} {
		r := NewReader(source, MaxFrame)
		var heads, sizes []int
		r.SetAdmit(func(head []byte, size int) error {
			if r.Idle() {
				t.Errorf("%s: a frame that has begun is none", name)
			}
			heads, sizes = append(heads, len(head)), append(sizes, size)
			if got, _, err := ParseRequest(head); len(heads) == 1 && (err != nil || got.ID != 7 || got.Op != OpSign) {
				t.Errorf("%s: the head is %+v, %v", name, got, err)
			}
			return nil
		})
		for _, want := range [][]byte{request, short} {
			if got, err := r.Next(); err != nil || !bytes.Equal(got, want[lengthSize:]) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
		if want := []int{RequestHeaderSize, len(short) - lengthSize}; !slices.Equal(heads, want) || sizes[0] != len(request)-lengthSize {
			t.Errorf("%s: heads of %v bytes of frames of %v", name, heads, sizes)
		}
	}
	refused := errors.New("no room")
	r := NewReader(bytes.NewReader(stream), MaxFrame)
	r.SetAdmit(func([]byte, int) error { return refused })
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, refused) {
			t.Errorf("a frame that is not admitted: %v", err)
		}
	}
}

func TestReaderKeepsNoPassword(t *testing.T) {
	t.Parallel()
	secret := []byte("correct horse battery staple")
	r := NewReader(bytes.NewReader(frameOf(secret)), MaxFrame)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(r.buf, secret) {
		t.Error("the buffer still holds what was taken from it")
	}
}

func TestHeadersReturn(t *testing.T) {
	t.Parallel()
	want := Request{ID: 77, Op: OpWrap, Deadline: 3, Operation: object.OperationID{1, 2, 3}}
	frame := append(BeginRequest(nil, want), "body"...)
	got, body, err := ParseRequest(frame[lengthSize:])
	if err != nil || got != want || string(body) != "body" {
		t.Errorf("ParseRequest: %+v %q %v", got, body, err)
	}
	for n := range RequestHeaderSize {
		if _, _, err := ParseRequest(frame[lengthSize:][:n]); err == nil {
			t.Errorf("a request of %d bytes is taken", n)
		}
	}
	for n := range AnswerHeaderSize {
		if _, _, err := ParseAnswer(frame[lengthSize:][:n]); err == nil {
			t.Errorf("an answer of %d bytes is taken", n)
		}
	}
}

func TestRefusalDetailIsCutAtACharacter(t *testing.T) {
	t.Parallel()
	for _, detail := range []string{"", "short", strings.Repeat("x", MaxDetail), strings.Repeat("ü", MaxDetail), "x" + strings.Repeat("€", MaxDetail), "bad\xffend"} {
		frame := AppendRefusal(nil, 4, object.ErrBusy, detail)
		head, body, err := ParseAnswer(frame[lengthSize:])
		if err != nil || head.ID != 4 || head.Code != object.ErrBusy {
			t.Fatalf("ParseAnswer: %+v %v", head, err)
		}
		got, err := DecodeRefusal(head.Code, body)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Detail) > MaxDetail || !utf8.ValidString(got.Detail) || !strings.HasPrefix(detail, got.Detail) {
			t.Errorf("detail of %d bytes became %d bytes", len(detail), len(got.Detail))
		}
		if len(detail) > MaxDetail && len(got.Detail) < MaxDetail-3 {
			t.Errorf("detail of %d bytes was cut to %d", len(detail), len(got.Detail))
		}
	}
	for _, bad := range [][]byte{[]byte("\xff"), make([]byte, MaxDetail+1)} {
		if _, err := DecodeRefusal(object.ErrBusy, bad); err == nil {
			t.Errorf("a detail of %d bytes %.4x is taken", len(bad), bad)
		}
	}
}

// FuzzReader reads a stream whole and byte by byte: both give the same frames,
// and these are the stream again.
func FuzzReader(f *testing.F) {
	f.Add(frameOf([]byte("body")))
	f.Add(append(frameOf(nil), frameOf(make([]byte, 100))...))
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, wholeErr := readAll(bytes.NewReader(in))
		single, singleErr := readAll(iotest.OneByteReader(bytes.NewReader(in)))
		if !bytes.Equal(whole, single) || wholeErr.Error() != singleErr.Error() {
			t.Fatalf("at once %x (%v), byte by byte %x (%v)", whole, wholeErr, single, singleErr)
		}
		if !bytes.HasPrefix(in, whole) || errors.Is(wholeErr, io.EOF) && len(whole) != len(in) {
			t.Fatalf("%x was read as %x (%v)", in, whole, wholeErr)
		}
	})
}

// readAll returns the frames with their lengths, one after the other, and the
// error at their end.
func readAll(src io.Reader) ([]byte, error) {
	var all []byte
	for r := NewReader(src, 1<<16); ; {
		frame, err := r.Next()
		if err != nil {
			return all, err
		}
		all = append(all, byte(len(frame)>>24), byte(len(frame)>>16), byte(len(frame)>>8), byte(len(frame)))
		all = append(all, frame...)
	}
}
