package intercept

import (
	"bytes"
	"crypto/tls"
	"io"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"moongate/internal/gw/config"
)

// bytesRead is how much this process has read by read(2) and its like, which
// splice(2) is not.
func bytesRead(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`rchar: (\d+)`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no rchar in %q", text)
	}
	n, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSplice: what is not decrypted does not pass through this process. Client
// and server are in it too, so that what each of them reads is counted once;
// what the gateway read would be counted again, as it is when it decrypts. The
// test is not parallel, since others would read meanwhile.
func TestSplice(t *testing.T) {
	const size = 16 << 20
	w := newWorld(t, options{snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "raw.test", Excluded: true}}}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "deep.test", "raw.test")}}, echo)
	body := bytes.Repeat([]byte("moongate"), size/8)
	times := map[string]float64{}
	for _, host := range []string{"raw.test", "deep.test"} {
		client, err := w.handshake(host+":"+port, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		before := bytesRead(t)
		var writing sync.WaitGroup
		writing.Go(func() { client.Write(body) })
		got := make([]byte, size)
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%s: what came back is not what was sent: %v", host, err)
		}
		writing.Wait()
		times[host] = float64(bytesRead(t)-before) / (2 * size) // up and down
		client.Close()
		if r := w.records.next(t); r.BytesUp < size || r.BytesDown < size {
			t.Errorf("%s: %d bytes up, %d down", host, r.BytesUp, r.BytesDown)
		}
	}
	t.Logf("each byte was read %.2f times where it is not decrypted, %.2f where it is", times["raw.test"], times["deep.test"])
	if times["raw.test"] > 1.2 || times["deep.test"] < 1.8 {
		t.Errorf("each byte was read %v times, want 1 without and 2 with decryption", times)
	}
}
