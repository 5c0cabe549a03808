package bundle

import (
	"encoding/json"
	"fmt"
)

// Statement is what a signature says: these bytes, from this repository, are
// this service at this commit.
type Statement struct {
	Digest     string `json:"digest"`
	Repository string `json:"repository"`
	Service    string `json:"service"`
	Commit     string `json:"commit"`
}

// Statement returns what a true signature of the bundle says.
func (b *Bundle) Statement() Statement {
	return Statement{b.Reference.Digest, b.Reference.Repository, b.Config.Service, b.Config.Commit}
}

// Check compares the payload of a verified envelope with the bundle. A true
// signature of another bundle is none of this one.
func (b *Bundle) Check(payload []byte) error {
	var got Statement
	if err := json.Unmarshal(payload, &got); err != nil {
		return fmt.Errorf("reading the signed statement: %w", err)
	}
	if want := b.Statement(); got != want {
		return fmt.Errorf("the signature is of %s@%s (%s at %s), not of this bundle", got.Repository, got.Digest, got.Service, got.Commit)
	}
	return nil
}
