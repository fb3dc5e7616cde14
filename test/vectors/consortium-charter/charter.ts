/** Test vectors of section Charter. */
import { publicModelDigest } from '../../../src/consortium/charter.ts'
import { MAJORITY_RULES, writeRules } from '../../../src/consortium/rules.ts'
import { seal } from '../../../src/identity/envelope.ts'
import type { Identity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { digestOf, fromUtf8, utf8 } from '../../../src/lib/bytes.ts'
import { decodeCanonical, encodeCanonical, type JsonObject } from '../../../src/lib/canonical-json.ts'
import type { PublicFile } from '../../../src/lib/model-shape.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import {
  alice,
  bob,
  both,
  type Change,
  carol,
  changed,
  file,
  files,
  payload,
  publicModel,
  set,
  shards,
  text,
} from './fixtures.ts'

export function charterVectors(): Vector[] {
  const cases: [...Case, string][] = []
  const add = (name: string, expect: string, comment: string, change: Change = () => undefined): void => {
    cases.push([name, expect, comment, text(MEDIA_TYPES.charter, changed(payload, change), both)])
  }
  const raw = (name: string, expect: string, comment: string, envelope: string): void => {
    cases.push([name, expect, comment, envelope])
  }
  add('two-founders', 'accept', 'both founders signed')
  add('unknown-member', 'bad-field', 'nothing may hide in a charter', set('motto', 'x'))
  add('version', 'bad-field', 'another version is another media type', set('version', 2))
  const second = (name: string, expect: string, comment: string, change: Change = () => undefined): void => {
    const bytes = changed(payload, (value) => {
      delete value['threshold']
      Object.assign(value, { version: 2, rules: writeRules(MAJORITY_RULES) })
      change(value)
    })
    cases.push([name, expect, comment, text(MEDIA_TYPES.charter2, bytes, both)])
  }
  const rule = (kind: string, value: unknown): Change =>
    set('rules', { ...writeRules(MAJORITY_RULES), [kind]: value })
  second('rules', 'accept', 'more than half of all members decide')
  second('rules-numbers', 'accept', 'both founders decide about rules', rule('rules', '2 founders'))
  second('rules-threshold', 'bad-field', 'one or the other', set('threshold', 2))
  second('rules-as-version-1', 'bad-field', 'another version is another media type', set('version', 1))
  second('rules-none', 'bad-field', 'somebody decides', set('rules', {}))
  second('rules-zero', 'bad-field', 'nobody would have to agree', rule('admit', '0 members'))
  second('rules-one', 'bad-field', 'no single key decides', rule('admit', '1 members'))
  second('rules-any', 'bad-field', 'no single key decides', rule('admit', 'any members'))
  second('rules-above-n', 'bad-field', 'three of two founders', rule('revoke', '3 founders'))
  second('rules-leading-zero', 'bad-field', 'one spelling', rule('revoke', '02 members'))
  second('rules-other-group', 'bad-field', 'members or founders', rule('revoke', 'majority auditors'))
  second('rules-other-kind', 'bad-field', 'nothing unknown', rule('depose', 'majority members'))
  second('rules-number', 'bad-field', 'a rule is a text', rule('renew', 2))
  add('no-founder', 'bad-field', 'somebody must approve', set('founders', []))
  add('threshold-zero', 'bad-field', 'nobody would have to sign', set('threshold', 0))
  add('threshold-too-high', 'bad-field', 'three of two founders', set('threshold', 3))
  add('founder-twice', 'bad-field', 'one key, one member', (value) => {
    const founders = value['founders'] as unknown[]
    value['founders'] = [founders[0], founders[0]]
  })
  add('founder-is-member', 'bad-field', 'founders have the role founder', (value) => {
    const [first] = value['founders'] as Record<string, unknown>[]
    if (first !== undefined) first['role'] = 'member'
  })
  add('control-in-name', 'bad-field', 'institutions have printable names', (value) => {
    const [first] = value['founders'] as Record<string, unknown>[]
    if (first !== undefined) first['institution'] = 'A\u001b[2J'
  })
  add(
    'wrong-model-digest',
    'bad-field',
    'not the digest of the files',
    publicModel('digest', digestOf(utf8('x'))),
  )
  add(
    'wrong-tokenizer',
    'bad-field',
    'not the tokenizer file',
    publicModel('tokenizerDigest', digestOf(utf8('x'))),
  )
  add('no-weights', 'bad-field', 'every role once', publicModel('files', files.slice(0, 2)))
  const withFiles = (list: readonly PublicFile[]): Change => {
    const digest = publicModel('digest', publicModelDigest(list))
    const entries = publicModel('files', list)
    return (value) => {
      digest(value)
      entries(value)
    }
  }
  add('shards', 'accept', 'two weight files and their index', withFiles(shards))
  add(
    'shards-without-index',
    'bad-field',
    'nothing says what lies where',
    withFiles(shards.filter(({ role }) => role !== 'index')),
  )
  add(
    'index-of-one-file',
    'bad-field',
    'one file needs no index',
    withFiles([...files, file('index', 'model.safetensors.index.json', 7)]),
  )
  add(
    'two-indexes',
    'bad-field',
    'two would say two things',
    withFiles([...shards, file('index', 'other.index.json', 8)]),
  )
  add(
    'two-tokenizers',
    'bad-field',
    'only weights come in several files',
    withFiles([...files, file('tokenizer', 'other.json', 8)]),
  )
  const instruct = [
    file('generation', 'generation_config.json', 20),
    file('tokenizer-config', 'tokenizer_config.json', 21),
    file('chat-template', 'chat_template.jinja', 22),
  ]
  const [, , template] = instruct as [PublicFile, PublicFile, PublicFile]
  add('instruct-files', 'accept', 'every optional file', withFiles([...files, ...instruct]))
  add(
    'one-instruct-file',
    'accept',
    'each optional file is optional by itself',
    withFiles([...files, template]),
  )
  add(
    'template-under-another-name',
    'bad-field',
    'programs would not find it',
    withFiles([...files, { ...template, name: 'template.jinja' }]),
  )
  add(
    'weights-named-as-template',
    'bad-field',
    'programs would render the weights',
    withFiles(files.map((one) => (one.role === 'weights' ? { ...one, name: template.name } : one))),
  )
  add(
    'generation-named-as-tokenizer-config',
    'bad-field',
    'each optional role has its own name',
    withFiles([...files, file('generation', 'tokenizer_config.json', 20)]),
  )
  add(
    'two-templates',
    'bad-field',
    'a chat is rendered in one way',
    withFiles([...files, template, { ...template, sha256: digestOf(utf8('x')) }]),
  )
  add(
    'large-template',
    'bad-field',
    'one byte above optionalFileBytes',
    withFiles([...files, { ...template, size: 4 * 2 ** 20 + 1, chunkSize: 2 ** 20 }]),
  )
  add(
    'script-file',
    'bad-field',
    'no other roles: nothing else travels',
    withFiles([...files, { ...template, role: 'code' as PublicFile['role'], name: 'modeling.py' }]),
  )
  add('file-path', 'bad-field', 'file names hold no slash', (value) => {
    const [first] = (value['publicModel'] as { files: Record<string, unknown>[] }).files
    if (first !== undefined) first['name'] = '../config.json'
  })
  raw('one-signature', 'unsigned', 'one founder has not signed', text(MEDIA_TYPES.charter, payload, [alice]))
  raw(
    'stranger-signs',
    'wrong-signer',
    'only founders sign a charter',
    text(MEDIA_TYPES.charter, payload, [alice, bob, carol]),
  )
  raw(
    'signed-twice',
    'bad-envelope',
    'one key signs once',
    text(MEDIA_TYPES.charter, payload, [alice, alice]),
  )
  raw('as-roster', 'wrong-type', 'signed as another kind', text(MEDIA_TYPES.roster, payload, both))
  raw('changed-name', 'bad-signature', 'changed after signing', tampered())
  raw('cut', 'not-json', 'half an envelope', text(MEDIA_TYPES.charter, payload, both).slice(0, 200))
  return vectorsOf('charter', 'consortium-charter Charter', cases, (envelope) => ({
    decoder: 'charter',
    envelope,
  }))
}

/** A charter of version 2 on its way between its founders. */
export function draftVectors(): Vector[] {
  const rules = set('rules', writeRules(MAJORITY_RULES))
  const second = changed(payload, (value) => {
    delete value['threshold']
    value['version'] = 2
    rules(value)
  })
  const of = (...signers: Identity[]): string => text(MEDIA_TYPES.charter2, second, signers)
  const other = JSON.parse(of(alice)) as JsonObject
  const renamed = Buffer.from(changed(second, set('name', 'Other consortium'))).toString('base64')
  const cases: [...Case, string][] = [
    ['one-signature', 'accept', 'the second founder signs next', of(alice)],
    ['whole', 'accept', 'both founders have signed', of(alice, bob)],
    ['no-signature', 'unsigned', 'whoever writes a charter signs it', of()],
    ['stranger-signs', 'wrong-signer', 'only founders sign', of(alice, carol)],
    ['signed-twice', 'bad-envelope', 'one key signs once', of(alice, alice)],
    [
      'changed-name',
      'bad-signature',
      'changed after the first founder has signed',
      fromUtf8(encodeCanonical({ ...other, payload: renamed })),
    ],
    [
      'version-1',
      'wrong-type',
      'earlier charters had no drafts',
      text(MEDIA_TYPES.charter, payload, [alice]),
    ],
    [
      'threshold',
      'bad-field',
      'a version has its own payload type',
      text(MEDIA_TYPES.charter2, payload, [alice]),
    ],
  ]
  return vectorsOf('charter-draft', 'consortium-charter Founding', cases, (envelope) => ({
    decoder: 'charter-draft',
    envelope,
  }))
}

/** Both signatures of the charter over another payload. */
function tampered(): string {
  const envelope = decodeCanonical(seal(MEDIA_TYPES.charter, payload, both), 1 << 20) as JsonObject
  const other = changed(payload, set('name', 'Other consortium'))
  return fromUtf8(encodeCanonical({ ...envelope, payload: Buffer.from(other).toString('base64') }))
}
