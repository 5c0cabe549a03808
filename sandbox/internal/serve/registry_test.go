package serve

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// An image that was pushed is there after the registry was started anew, and
// one that was deleted is not.
func TestImagesOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	start := func() (*httptest.Server, func(string) name.Digest) {
		i, err := newImages(t.Context(), dir, registry.Logger(log.New(io.Discard, "", 0)))
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(i)
		return s, func(digest string) name.Digest {
			d, err := name.NewDigest(strings.TrimPrefix(s.URL, "http://") + "/nsflow/orders@" + digest)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	first, ref := start()
	var digests []string
	for range 2 {
		image, err := random.Image(256, 1)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref(digest.String()), image); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest.String())
	}
	if err := remote.Delete(ref(digests[1])); err != nil {
		t.Fatal(err)
	}
	first.Close()

	second, ref := start()
	defer second.Close()
	image, err := remote.Image(ref(digests[0]))
	if err != nil {
		t.Fatalf("the image that was pushed: %v", err)
	}
	if layers, err := image.Layers(); err != nil || len(layers) != 1 {
		t.Errorf("layers = %v, %v", layers, err)
	}
	if _, err := remote.Image(ref(digests[1])); err == nil {
		t.Error("the image that was deleted is there again")
	}
}
