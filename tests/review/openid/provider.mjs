// A certified OpenID provider (oidc-provider) for the tests. Arguments: port, redirect URI, key id, claims in the ID token (yes or no).
// Anyone logs in with any password; the name and the groups of a person come from the login: "amartin+readers+cooks".
import { generateKeyPairSync } from 'node:crypto'
import Provider from 'oidc-provider'

const [port, redirectUri, keyId, inIdToken] = process.argv.slice(2)
const key = { ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), kid: keyId, use: 'sig' }
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'desk', client_secret: 'a secret: with / signs', redirect_uris: [redirectUri],
      post_logout_redirect_uris: [new URL('/', redirectUri).href],
    },
    { client_id: 'other', client_secret: 'another', redirect_uris: [redirectUri] },
  ],
  jwks: { keys: [key] },
  cookies: { keys: ['only for tests'] },
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  scopes: ['openid', 'profile', 'groups'],
  conformIdTokenClaims: inIdToken !== 'yes',
  pkce: { methods: ['S256'], required: () => true },
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  findAccount: (_, login) => ({
    accountId: login,
    claims: () => {
      const [name, ...groups] = login.split('+')
      return { sub: login, preferred_username: name, groups }
    },
  }),
})
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'))
