package joblog

import (
	"regexp"
	"strings"
)

// longestKey is how many lines a private key may have, in PEM: twice what RSA
// with 8192 bits needs. A mere mention of a key's first line ends there too.
const longestKey = 200

var (
	keyBegin = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----`)
	keyEnd   = regexp.MustCompile(`-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----`)
	// keyWord and keyLine are what a key is made of, whatever stands before it on
	// the line (a diff's sign, a time): a long base64 word, or a line of one word.
	// Sentences stay readable: another writer's line may come between.
	keyWord = regexp.MustCompile(`[A-Za-z0-9+/=]{16,}`)
	keyLine = regexp.MustCompile(`^([^A-Za-z0-9]*)[A-Za-z0-9+/=]+([^A-Za-z0-9+/=]*)$`)
)

// privateKey takes private keys in PEM out of a text that comes in pieces, at
// line ends. Its zero value is outside of a key.
type privateKey struct {
	left int // lines that the key the text is inside of may still have; 0 outside
}

// mask returns text, one line or several, without the private keys in it. It
// also knows keys whose newlines are escaped, as in JSON: their line is one.
func (k *privateKey) mask(text string) string {
	if k.left == 0 && !keyBegin.MatchString(text) {
		return text
	}
	lines := strings.Split(text, "\n")
	kept := lines[:0]
	for _, line := range lines {
		kept = append(kept, k.line(line))
	}
	return strings.Join(kept, "\n")
}

func (k *privateKey) line(rest string) string {
	var out strings.Builder
	if k.left > 0 {
		end := keyEnd.FindStringIndex(rest)
		if end == nil {
			k.left--
			return keyWord.ReplaceAllLiteralString(keyLine.ReplaceAllString(rest, "${1}"+masked+"${2}"), masked)
		}
		out.WriteString(masked)
		rest, k.left = rest[end[1]:], 0
	}
	for {
		begin := keyBegin.FindStringIndex(rest)
		if begin == nil {
			out.WriteString(rest)
			return out.String()
		}
		out.WriteString(rest[:begin[0]] + masked)
		rest = rest[begin[1]:]
		end := keyEnd.FindStringIndex(rest)
		if end == nil {
			// Only a first line that ends here has more of them: one with escaped
			// newlines has all of the key, or is cut off.
			if strings.TrimSpace(rest) == "" {
				k.left = longestKey
			}
			out.WriteString(keyWord.ReplaceAllLiteralString(rest, masked))
			return out.String()
		}
		rest = rest[end[1]:]
	}
}
