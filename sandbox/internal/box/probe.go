package box

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

// retry calls try until it succeeds, with short pauses that grow. It is for
// processes that offer nothing to watch before they listen.
func retry(ctx context.Context, try func(context.Context) error) error {
	pause := 20 * time.Millisecond
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
		pause = min(pause*3/2, 250*time.Millisecond)
	}
}

// answers waits until a GET of url is answered with 200. The certificate is
// not looked at: the address is a loopback port that this sandbox chose.
func answers(ctx context.Context, url string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		DisableKeepAlives: true,
	}}
	return retry(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
			return fmt.Errorf("%s answers %s: %s", url, resp.Status, body)
		}
		return nil
	})
}
