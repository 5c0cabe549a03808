package awsfront

import (
	"net/http"
	"net/url"
	"strings"
)

// s3Object is an object; without a version the newest is meant.
type s3Object struct{ bucket, key, version string }

func (o s3Object) arn() string { return "arn:aws:s3:::" + o.bucket + "/" + o.key }

// copySource is what a call copies from, if it does: CopyObject is a PutObject
// with a source, UploadPartCopy an UploadPart.
func copySource(c *call) (o s3Object, ok bool) {
	header := c.r.Header.Get("X-Amz-Copy-Source")
	if header == "" || c.action != "PutObject" && c.action != "UploadPart" {
		return o, false
	}
	source, query, _ := strings.Cut(strings.TrimPrefix(header, "/"), "?")
	if plain, err := url.PathUnescape(source); err == nil {
		source = strings.TrimPrefix(plain, "/")
	}
	o.bucket, o.key, _ = strings.Cut(source, "/")
	if values, err := url.ParseQuery(query); err == nil {
		o.version = values.Get("versionId")
	}
	return o, true
}

// copyAsks are the rights on the object that a call copies from. Its bucket
// may be another's than the one that is written, with a policy and a key of
// its own.
func (f *Front) copyAsks(c *call) ([]ask, *apiError) {
	source, ok := copySource(c)
	if !ok {
		return nil, nil
	}
	g, owner, refused := f.bucketGuard(c, source.bucket)
	if refused != nil {
		return nil, refused
	}
	if want := c.r.Header.Get("X-Amz-Source-Expected-Bucket-Owner"); want != "" && owner != "" && want != owner {
		return nil, refuse(http.StatusForbidden, "AccessDenied", "Access Denied")
	}
	context, refused := f.ownerKeys(c, owner)
	if refused != nil {
		return nil, refused
	}
	read := ask{action: "s3:GetObject", resource: source.arn(), context: context, guard: g}
	if source.version != "" {
		read.action, context["s3:versionid"] = "s3:GetObjectVersion", []string{source.version}
	}
	if owner == "" {
		read.unusable = noSuchBucket()
		return []ask{read}, nil
	}
	id, refused := f.bucketKey(c, source.bucket, owner)
	if refused != nil {
		return nil, refused
	}
	decrypt, refused := f.keyRights(c, source.bucket, id, "kms:Decrypt")
	return append([]ask{read}, decrypt...), refused
}

// ownerKeys are the condition keys of the account that a resource belongs to,
// where it is not the one that the call itself is about.
func (f *Front) ownerKeys(c *call, account string) (map[string][]string, *apiError) {
	keys := map[string][]string{"aws:resourceaccount": nil, "aws:resourceorgid": nil}
	if account == "" {
		return keys, nil
	}
	keys["aws:resourceaccount"] = []string{account}
	m, err := f.membershipOf(c.r.Context(), account)
	if err != nil {
		return nil, internal(err)
	}
	if m.organization != "" {
		keys["aws:resourceorgid"] = []string{m.organization}
	}
	return keys, nil
}
