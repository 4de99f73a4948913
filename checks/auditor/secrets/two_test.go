package secrets
import ("testing";"context";"time";"strings";"os";"github.com/noxaudit/noxaudit/checks/audit")
func TestTwo(t *testing.T) {
	a := standard(t)
	auditText(t, a, "a.txt", "x")
	n := 1<<20
	if os.Getenv("FULL") != "" { n = 5<<20-100 }
	for _, u := range []string{"key=aaaaaaaaaa ", "key=aaaaaaaaaa\n", "key=0123456789ab ", "key=0123456789ab\n", "token: 9fk2ldPw0sQz\n", "token: 9fk2ldPw0sQz ", "aws_access_key=q9 ", "heroku=abc ", "password:aaaaaaaaaa;", "AKIAAAAAAAAAAAAAAAAA ","AKIAAAAAAAAAAAAAAAAA\n", "eyJhbGciOiJIUzI1NiIs ", "curl -u aaaa:bbbbbbbb ", "curl -H \"Authorization: x\" ", "api_key: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n", "adobe=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ", "adafruit=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ", "facebook=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "discord='aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ", "sk-ant-api03-", "-----BEGIN OPENSSH PRIVATE "+"KEY-----"+strings.Repeat("A",70), "Bearer abc ", "YXBpX2tleT1hYmNkZWZnaGlqa2w= "} {
		text := strings.Repeat(u, n/len(u))
		start := time.Now()
		ctx, c := context.WithTimeout(context.Background(), 20*time.Second)
		ds, err := a.AuditBlob(ctx, audit.Blob{Path: "a.txt", Bytes: []byte(text), Seal: testSeal})
		c()
		t.Logf("%-45q %6.2f %d %v", u, time.Since(start).Seconds(), len(ds), err)
	}
}
