// Package httpd serves HTTP until it is told to stop.
package httpd

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// grace is how long requests have to end.
const grace = time.Second

// Serve serves until ctx is done, gives the requests under way a second to end,
// and closes the listener. The error is nil after ctx.
func Serve(ctx context.Context, l net.Listener, srv *http.Server) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if srv.Shutdown(patience) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
