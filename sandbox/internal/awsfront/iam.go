package awsfront

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// serveIAM passes a call on to moto, and has its change count as late as the
// settings say.
func (f *Front) serveIAM(c *call) {
	switch c.action {
	case "AddClientIDToOpenIDConnectProvider", "RemoveClientIDFromOpenIDConnectProvider":
		f.changeClientIDs(c)
		return
	}
	kind, name := changedEntity(c)
	mutates, _ := f.counter.mutating(c.service, c.action)
	switch {
	case !mutates:
		f.passOn(c)
		return
	case name == "": // a managed policy, that any of the account's entities may have
		f.passChange(c, c.caller.Account+"/")
		return
	}
	entity := viewOf(c.caller.Account, kind, name)
	wait := time.Duration(f.settings.get().Propagation)
	if wait == 0 {
		f.passChange(c, entity)
		return
	}
	old, err := f.principalView(c.r.Context(), c.caller.Account, kind, name)
	if err != nil {
		c.fail(internal(err))
		return
	}
	// Before the change: a call that comes beside it sees the old view too.
	f.views.delay(entity, old, f.now().Add(wait))
	f.passChange(c, entity)
}

// changedEntity names the role or user that a call is about, "" for none.
func changedEntity(c *call) (kind, name string) {
	if c.param("RoleName") != "" {
		return "role", c.param("RoleName")
	}
	return "user", c.param("UserName")
}

// passChange passes a call on that may change what the front has read, under
// names that begin so.
func (f *Front) passChange(c *call, prefix string) {
	f.views.forget(prefix)
	defer f.views.forget(prefix)
	f.passOn(c)
}

// changeClientIDs is what moto lacks: it has only whole providers.
func (f *Front) changeClientIDs(c *call) {
	arn, id := c.param("OpenIDConnectProviderArn"), c.param("ClientID")
	client := f.moto.iam(c.caller.Account)
	// Between the two changes there is no provider.
	ctx, done := detached(c.r.Context())
	defer done()
	have, err := client.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	if hasCode(err, "NoSuchEntity") {
		c.fail(refuse(http.StatusNotFound, "NoSuchEntity", "OpenIDConnect Provider not found for arn %s", arn))
		return
	}
	if err != nil {
		c.fail(internal(err))
		return
	}
	ids := slices.DeleteFunc(slices.Clone(have.ClientIDList), func(s string) bool { return s == id })
	if c.action == "AddClientIDToOpenIDConnectProvider" {
		ids = append(ids, id)
	}
	if _, err := client.DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn}); err != nil {
		c.fail(internal(err))
		return
	}
	url := "https://" + *have.Url
	if strings.HasPrefix(*have.Url, "https://") {
		url = *have.Url
	}
	if _, err := client.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: &url, ClientIDList: ids,
		ThumbprintList: have.ThumbprintList, Tags: have.Tags}); err != nil {
		c.fail(internal(err))
		return
	}
	type body struct {
		XMLName  xml.Name
		Metadata responseMetadata `xml:"ResponseMetadata"`
	}
	writeXML(c.w, http.StatusOK, body{xml.Name{Space: "https://iam.amazonaws.com/doc/2010-05-08/", Local: c.action + "Response"}, responseMetadata{requestID()}})
}
