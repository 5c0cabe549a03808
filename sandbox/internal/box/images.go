package box

import (
	"context"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gitlab.com/slipway/slipway/sandbox/internal/buildcache"
	"gitlab.com/slipway/slipway/sandbox/internal/debian"
	"gitlab.com/slipway/slipway/sandbox/internal/image"
)

// debianNames are the images that are made of Debian packages, which are
// there where there are real nodes.
func debianNames() []string { return []string{"postgres", "rabbitmq"} }

func (b *Box) debianImages() []buildcache.Item {
	var items []buildcache.Item
	for _, name := range debianNames() {
		dir := b.buildDir(name)
		items = append(items, buildcache.Item{
			// What makes an image is part of what it is made of.
			Name: name, Cold: "1 min", From: []string{dir, filepath.Join(b.Root, "sandbox", "internal", "debian", "debian.go")},
			Tools: func(context.Context) ([]string, error) { return []string{runtime.GOARCH}, nil },
			Build: func(ctx context.Context, s buildcache.Site) error {
				return debian.Build(ctx, dir, s.Out, s.Log)
			},
		})
	}
	return items
}

const veleroImageName = "velero-node"

// veleroImage is what of Velero runs on real nodes: the node agent, and the
// helper by which a restored pod waits for its files. It is built after the
// program velero, which is in it.
func (b *Box) veleroImage() buildcache.Item {
	dir := b.buildDir("velero")
	return buildcache.Item{
		Name: veleroImageName, Cold: "10 s", From: []string{dir}, Tools: goTools(dir),
		Build: func(ctx context.Context, s buildcache.Site) error {
			const name = "velero-restore-helper"
			helper := filepath.Join(s.Out, name)
			if err := b.goBuild(ctx, s, dir, name, "github.com/vmware-tanzu/velero/cmd/velero-restore-helper"); err != nil {
				return err
			}
			img, err := image.Pack([]image.File{
				{From: b.builtProgram("velero"), To: "velero", Mode: 0o755},
				{From: helper, To: name, Mode: 0o755},
				{To: "tmp", Mode: 0o1777},
			}, v1.Config{Entrypoint: []string{"/velero"}})
			if err != nil {
				return err
			}
			if err := image.Save(filepath.Join(s.Out, "image"), img); err != nil {
				return err
			}
			return os.Remove(helper)
		},
	}
}

// builtProgram is the path of a program while others are being built.
func (b *Box) builtProgram(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.program(name)
}
