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
	name := changedEntity(c)
	wait := time.Duration(f.settings.get().Propagation)
	if name == "" || wait == 0 {
		f.passChange(c)
		return
	}
	parts := strings.SplitN(name, "/", 3)
	old, err := f.principalView(c.r.Context(), parts[0], parts[1], parts[2])
	if err != nil {
		c.fail(internal(err))
		return
	}
	// Before the change: a call that comes beside it sees the old view too.
	f.views.delay(name, old, f.now().Add(wait))
	f.passChange(c)
}

// changedEntity names the role or user whose rights a call changes, "" for
// none.
func changedEntity(c *call) string {
	if mutates := operations()["iam:"+c.action].mutates; !mutates {
		return ""
	}
	switch {
	case c.param("RoleName") != "":
		return viewOf(c.caller.Account, "role", c.param("RoleName"))
	case c.param("UserName") != "" && !strings.HasSuffix(c.action, "AccessKey"):
		return viewOf(c.caller.Account, "user", c.param("UserName"))
	}
	return ""
}

// passChange passes a call on that may change what the front has read.
func (f *Front) passChange(c *call) {
	f.views.forget()
	defer f.views.forget()
	f.passOn(c)
}

// changeClientIDs is what moto lacks: it has only whole providers.
func (f *Front) changeClientIDs(c *call) {
	arn, id := c.param("OpenIDConnectProviderArn"), c.param("ClientID")
	client := f.moto.iam(c.caller.Account)
	have, err := client.GetOpenIDConnectProvider(c.r.Context(), &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
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
	if _, err := client.DeleteOpenIDConnectProvider(c.r.Context(), &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn}); err != nil {
		c.fail(internal(err))
		return
	}
	url := "https://" + *have.Url
	if strings.HasPrefix(*have.Url, "https://") {
		url = *have.Url
	}
	if _, err := client.CreateOpenIDConnectProvider(c.r.Context(), &iam.CreateOpenIDConnectProviderInput{Url: &url, ClientIDList: ids,
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
