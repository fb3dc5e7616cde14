/** Every MUST of a specification names the vectors and tests that hold the code to it. */
import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { PROTOCOL_NAMES, specification, vectorFiles } from '../support/specifications.ts'

/** A vector by its name, or a test file in test/ and a text that occurs in it: a title, a code or a function. */
type Proof = { readonly vector: string } | { readonly file: string; readonly contains: string }

const vectors = (...names: string[]): Proof[] => names.map((vector) => ({ vector }))
const test = (file: string, contains: string): Proof => ({ file, contains })
const rule = (title: string): Proof => test('protocols/rules.test.ts', title)

/** Sentence, white space collapsed and lists included, to where it is tested. */
const MUSTS: Readonly<Record<string, Readonly<Record<string, readonly Proof[]>>>> = {
  'consortium-charter': {
    'Every founder MUST have signed the charter, and nobody else.': vectors(
      'charter-two-founders',
      'charter-one-signature',
      'charter-stranger-signs',
    ),
    'A file of an optional role MUST have the name of its role and at most `optionalFileBytes` bytes, and a file of another role MUST NOT have one of these names: programs find these files by name.':
      vectors(
        'charter-instruct-files',
        'charter-template-under-another-name',
        'charter-weights-named-as-template',
        'charter-generation-named-as-tokenizer-config',
        'charter-large-template',
      ),
    'A receiver MUST bound the time and the memory of a chat template.': [
      test('data/prompt-encoder.test.ts', 'are refused in a sentence if the template %s'),
    ],
    'After `expiresAt` plus `clockSkew`, a receiver MUST NOT accept further packages (`expired`) until a later roster renews the membership.':
      [
        test('statements/statement-log.test.ts', 'covers no package until it is renewed'),
        test('node/membership.test.ts', "'expired'"),
      ],
    'It has the semantics of a group in a C2SP tlog-policy file that names the active members of this role: so many distinct members of the group MUST support a change.':
      [test('consortium/derive-roster.test.ts', 'counts one member once, whatever it signs')],
    'From three active members on, at least two distinct members MUST support every change, whatever the rule says.':
      [test('consortium/derive-roster.test.ts', 'of founders has at least two members from three on')],
    'All nodes derive the same one of them; a receiver MUST show the two and the members that supported both.':
      [
        test(
          'consortium/derive-roster.test.ts',
          'are decided in the same way whatever arrives first, and those who supported both are named',
        ),
        test('commands/proposals.test.ts', 'contradict each other'),
      ],
    'A node MUST NOT let the work of deriving the roster depend on more than one answer of each member to each proposal.':
      [test('consortium/derive-roster.test.ts', 'is bounded: of 10,000 statements of one member')],
    'The statement MUST be signed by `key` and by the key of `node`, if it names one, and by nobody else.':
      vectors(
        'keys-first',
        'keys-without-node-signature',
        'keys-without-institution',
        'keys-third-signature',
      ),
    'A statement about keys MUST fit to the state before it:': vectors('keys-rotation', 'keys-stranger'),
    'If its `key` is the institution key of that state, `next` MUST be that of the state, if the state has one (`not-committed`): a commitment binds whoever holds the key.':
      vectors('keys-other-node', 'keys-other-commitment', 'keys-no-commitment'),
    'If its `key` has the digest `next` of that state, the statement is a **rotation**, which MUST commit another `next` (`not-committed`).':
      vectors('keys-rotation', 'keys-rotation-without-next', 'keys-rotation-to-itself'),
    'A key that served the seat before the state, and an institution key as node key, MUST NOT return (`replayed`).':
      vectors('keys-replaced-node', 'keys-first-key-as-node'),
    "Every other statement of the log MUST be signed by the institution key of the state before it, or by its node key: `wrong-signer` for another key or for a kind of statement outside the node key's scopes, `expired` if it was issued after the node key's `expiresAt`.":
      vectors(
        'signer-node',
        'signer-stranger',
        'signer-replaced-node',
        'signer-out-of-scope',
        'signer-ended-node',
      ),
    'A receiver MUST close the connections of a key that does not rule a seat any more.': [
      test('node/seat-keys.test.ts', 'closes the connections of the node key that was replaced'),
    ],
    '`consortium`: the digest that the fetched charter MUST have.': [
      test('node/joining.test.ts', 'is refused if the charter that is fetched is that of another consortium'),
    ],
  },
  'expert-package': {
    'A receiver MUST check in this order: the size of the envelope, its schema, its payload type, every signature, the size and the canonical form of the payload, every member.':
      [rule('find the %s before the %s')],
    'It MUST parse the bytes whose signature it verified.': [
      rule('parse the bytes whose signature was verified, and no others'),
    ],
    'A statement MUST have exactly one signature, by its `publisher`; anything else is `wrong-signer`.':
      vectors('envelope-signed', 'envelope-other-signer', 'envelope-two-signers', 'envelope-unsigned'),
    'A receiver that sees a fork MUST keep both statements as proof (one pair for each publisher is enough), and MUST NOT use any package of that publisher, because nobody can tell which history its owner meant.':
      [
        test('statements/statement-log.test.ts', 'is kept as proof once, also after a restart'),
        test(
          'acceptance/accepted-experts.test.ts',
          'are dropped, all of them, once their publisher has forked',
        ),
      ],
    'The number and digest of the latest statement MUST be on disk before its expert is used.': [
      test('store/catalogue.test.ts', 'catalogue.append'),
    ],
    "After `expiresAt` the owner's consent has ended, and the expert MUST NOT be used.": [
      test('node/consent.test.ts', "'expired'"),
    ],
    '`digest` and `tokenizerDigest` MUST be those of the charter (`wrong-public-model` on acceptance).': [
      test('node/refusals.test.ts', "'wrong-public-model'"),
    ],
    '`size` MUST be at least the size of the tensors that `expert` calls for plus 8 bytes, and at most `safetensorsHeaderBytes` more.':
      vectors('manifest-file-too-small', 'manifest-file-too-large', 'manifest-statistics-no-room'),
    'A receiver MUST NOT take a head with a lower `seq` than one that it has seen.': [
      test(
        'statements/statement-log.test.ts',
        'is ignored if it names an earlier statement than one before it',
      ),
    ],
    'A receiver MUST refuse a package as `withdrawn` if it has the file of a withdrawn package, or FFN weights that are nearly those of a withdrawn package that the receiver once judged, whoever publishes it, and if - its manifest follows the withdrawal in the same log, or - it is of another log and its manifest was issued later than the withdrawal, or - its manifest arrived after the withdrawal, which itself arrived within an hour after it was issued.':
      [
        test('acceptance/withdrawn-weights.test.ts', 'counts against'),
        test('node/withdrawal.test.ts', 'is refused when it is published again'),
      ],
    'A complete file MUST have the digest `sha256`, otherwise it is removed: if the publisher lied, correct chunks can form a wrong file.':
      [test('store/partial-blob.test.ts', 'removes a file with right chunks and a wrong digest')],
    'Documents MUST be disjoint, and n MUST be at least `statisticsDocuments`.': [
      ...vectors('declared-enough', 'declared-few-documents'),
      test('data/token-file.test.ts', 'disjointStretches'),
    ],
    "A receiver MUST refuse statistics - that average over fewer than `statisticsDocuments` documents (`statistics-documents`); - with another number of tokens than the public model's vocabulary (`tensor-shape`); - that are not finite (`not-finite`), have a share below 0, or have a sum that differs from 1 by more than 0.001 (`statistics-shares`); - with which the gate solved for the public expert and this expert, with c = 1 and e = 0, gives this expert a larger share of public held-out text than the receiver allows (`gate-share`).":
      [
        ...vectors(
          'declared-few-documents',
          'declared-smaller-vocabulary',
          'declared-larger-vocabulary',
          'shares-not-a-number',
          'shares-infinite',
          'shares-negative',
          'shares-rounded',
          'shares-too-little',
          'shares-too-much',
        ),
        test('node/refusals.test.ts', "'gate-share'"),
      ],
    'They are absent from a training with a guarantee, because they are exact figures of the text: a manifest with `privacy.mechanism` `dp-sgd` MUST NOT have them.':
      vectors('audit-of-a-guarantee', 'audit-figures-outside-of-a-guarantee'),
    'Because an exact figure of the text would be outside of the guarantee, a manifest with `dp-sgd` MUST have 0 in `training.documents` and `training.tokens`, and no `eval` of the set `own`; and if it has router statistics, neither `statisticsNoiseMicro` nor `expert.statisticsEpsilonMilli` is 0.':
      vectors(
        'privacy-documents',
        'privacy-tokens',
        'privacy-own-eval',
        'privacy-statistics',
        'privacy-statistics-outside',
        'privacy-statistics-exact',
      ),
    'A receiver that knows the accountant MUST compute epsilon from the other members, and refuse a manifest whose `epsilonMicro` is more than 1 below the result (`privacy-statement`).':
      vectors(
        'judged-privacy-computed',
        'judged-privacy-lower',
        'judged-privacy-less-noise',
        'judged-privacy-truncation',
        'judged-privacy-statistics-left-out',
        'judged-privacy-other-accountant',
      ),
  },
  composition: {
    'An expert without statistics MUST get the logit of the public expert from the gate: `g_i(t) = e_0` at every token.':
      [
        test('model/gates.test.ts', 'the logit of the public expert, and changes no other'),
        test(
          'composition/solved-router.test.ts',
          'the loss that it had before one without statistics was added',
        ),
      ],
    'An expert that a request leaves out MUST have no part in the gate: it is as if it had not been composed, and the gate is solved without it.':
      [test('composition/solved-router.test.ts', 'a composition of only the selected experts')],
    'A reader MUST compute it from the other members and refuse another one with `wrong-digest`.': vectors(
      'file-three-experts',
      'file-other-digest',
      'file-one-missing',
    ),
  },
  'inference-api': {
    '`Content-Type` MUST be `application/json`.': [test('serving/app.test.ts', "'bad_content_type'")],
    'A server MUST refuse a member that would change the answer or its form in a way that the server does not support.':
      vectors(
        'completion-best-of-two',
        'completion-top-logprobs',
        'completion-top-k',
        'chat-echo',
        'completion-exclude-at-top',
        'chat-tools',
        'chat-format-unknown',
        'chat-tool-calls',
      ),
    'The server MUST choose every token among those that some answer of the format continues with, so that an answer that ends by itself is an object, or a value that the schema allows.':
      [
        test('grammar/corpus.test.ts', 'are valid, whichever tokens are chosen'),
        test('serving/structured.test.ts', 'gets values of its schemas'),
      ],
    'Every other keyword is refused with `bad-field`, whose message names the keyword and its place; a server MUST NOT ignore one.':
      [
        ...vectors('chat-json-schema-pattern', 'chat-json-schema-format', 'chat-json-schema-of-nobody'),
        test('grammar/schema.test.ts', 'is refused for %s'),
      ],
    'A server may write fewer values than the schema allows, and MUST NOT write others.': [
      test('grammar/schema.test.ts', 'does not allow %s'),
    ],
    'Such a request MUST NOT have `experts.include` or `experts.exclude`.': [
      test('serving/models.test.ts', 'is refused if it also selects experts'),
    ],
    'With `messages` it MUST NOT be true: a chat has the tokens with which it is answered.': [
      ...vectors('tokenize-chat-special-tokens'),
      test('serving/tokenization.test.ts', 'of a chat has the tokens with which the chat is answered'),
    ],
    'A server MUST NOT allow an origin that is not listed, and MUST compare origins exactly: neither `*` nor a part of a name is a pattern.':
      [
        test('serving/cors.test.ts', 'a page of another origin'),
        test('serving/cors.test.ts', 'is not allowed if no origin is listed'),
      ],
    'A server MUST NOT use the keys and values of a prompt for a request with another key: its holder could find out, token by token, what was asked.':
      [
        test(
          'serving/logprobs.test.ts',
          'counts the tokens that are known from earlier prompts of the same key',
        ),
      ],
    'A server MUST check the host and the key before it reads the body, and the length of the prompt before the request waits.':
      [
        test('serving/order-of-work.test.ts', 'reads no body before the host and the key are checked'),
        test('serving/order-of-work.test.ts', 'refuses a prompt by its length without encoding it'),
      ],
    'A node MUST compute an answer with the composition that it serves when the request leaves the queue, and attribute it to that composition, even if another one is served before the answer is complete.':
      [
        test('serving/local-engine.test.ts', 'that is served when the request leaves the queue'),
        test('serving/local-engine.test.ts', 'by the composition with which it began'),
      ],
    "The node learns what the upstream serves from the export's `composition.json` (composition, Composition file), whose consortium and public model MUST be the node's own.":
      [
        test('serving/gateway.test.ts', "'wrong-consortium'"),
        test('serving/gateway.test.ts', "'wrong-public-model'"),
      ],
  },
  'transparency-log': {
    'A receiver MUST refuse extension lines.': vectors('checkpoint-extension'),
    'A member MUST NOT sign a checkpoint that is not consistent with one that it has signed before, and signs none in a home that was restored and has not caught up.':
      [test('transparency/cosigned-logs.test.ts', 'signs nothing in a home that was set back')],
    'A receiver MUST NOT take the signature of another key: one that was replaced before may be in the hands of a thief.':
      [
        test('transparency/cosigned-logs.test.ts', 'is not final by a checkpoint of a key that was replaced'),
        test('transparency/bundle.test.ts', 'a checkpoint by a node key that was replaced before it'),
      ],
    'It MUST have exactly one signature, by a key that rules the seat now: the institution key, or the node key with the scope `witness` if `issuedAt` is not after its end.':
      [
        test('transparency/cosigned-logs.test.ts', 'takes no witness key from anybody else'),
        test('transparency/cosigned-logs.test.ts', 'counts no cosignature of a witness key'),
      ],
    'A witness MUST write down size and root before it answers 200, and MUST NOT decide about another request in between.':
      [
        test('transparency/witness.test.ts', 'remembers after a restart what it has cosigned'),
        test('transparency/witness.test.ts', 'cosigns only one of two checkpoints that follow the same one'),
      ],
    'A receiver MUST keep the checkpoint as proof and MUST NOT take later checkpoints of that log for final.':
      [
        test('node/cosigned-logs.test.ts', 'nothing more of it is final'),
        test(
          'transparency/cosigned-logs.test.ts',
          'takes nothing more for final of a log that contradicts itself',
        ),
      ],
    'A verifier MUST check that the seal covers all lines, that the charter has the expected id and that every roster follows from the one before; that the roster which the statements of all logs derive is the one that `applied` names; that every statement is signed by a key of the seat whose log it is (consortium-charter, Keys: the statements about keys in the log, and the restorations on the roster, say by which one) and follows the one before; that both checkpoints are signed by a key that may sign them, have the roots of the statements, and are consistent; that every proof verifies; that witness keys and the seal are signed by keys that rule their seats in the end; and that a head is signed like a checkpoint of `seq` statements and names a statement which is there.':
      [
        test('transparency/bundle.test.ts', 'is refused, whatever the key has signed'),
        test('transparency/bundle.test.ts', 'are all found by the verifier in %s'),
        test('transparency/bundle.test.ts', 'is refused by an auditor who expects another consortium'),
      ],
    'It MUST refuse a bundle in which the log of a member has no final checkpoint by the roster of the bundle, or by the policy of the auditor if there is one, and a checkpoint with a line that is neither the one signature of its log nor a cosignature that counts.':
      [
        test('transparency/bundle.test.ts', 'attackBundles'),
        test('node/cosigned-logs.test.ts', 'demand the cosignatures of a policy'),
      ],
  },
  'package-exchange': {
    'A receiver MUST close a connection as soon as the header of a larger frame arrives, and one with more than `smallFramesPerSecond` frames of less than 1 KiB.':
      [
        test('network/yamux-watch.test.ts', 'refuses a larger frame by its header, before its data'),
        test('network/yamux-watch.test.ts', 'refuses a flood of %s'),
      ],
    'A receiver MUST NOT refuse a connection for lack of a place: it closes the oldest pending connection of the same source or, if that source has room, of the source with most.':
      [
        test('network/admission.test.ts', 'the place of the oldest unfinished one of its source'),
        test('node/hostile-sockets.test.ts', 'is connected again in spite of'),
      ],
    'The first request of a guest MUST carry the token of an open invitation: it asks for the charter, or for membership.':
      [test('node/hostile-guests.test.ts', 'is refused and disconnected when it shows a wrong token')],
    'To a guest, a node MUST NOT answer identify, list other protocols, or send announcements.': [
      test('node/hostile-guests.test.ts', 'is answered on the join protocol only'),
      test('node/hostile-guests.test.ts', 'is not sent announcements, and no stream is opened to it'),
    ],
    'Before it decodes a frame, a receiver MUST check that the frame has at most `cborItems` items and `cborDepth` levels of lists and maps.':
      vectors('cbor-many-items', 'cbor-deep'),
    'A receiver MUST dial a hint at most once in `hintPause`, at most `addressesPerMember` hints about one member in this time, and none while the member is connected.':
      [
        test('network/address-table.test.ts', 'is tried once in hintPause and never told to others'),
        test('network/address-table.test.ts', 'is one of a limited number in hintPause, whoever gives it'),
      ],
    'It MUST NOT tell a hint to others, or let it replace a better address.': [
      test('network/address-table.test.ts', 'is tried once in hintPause and never told to others'),
      test('network/address-table.test.ts', 'does not displace a better address'),
    ],
  },
}

/** Sentences with MUST, outside code, tables and the line that explains the word. */
function mustsOf(markdown: string): string[] {
  const prose = markdown
    .replace(/```[\s\S]*?```/g, '\n\n')
    .replace(/^(?:#|\|).*$/gm, '\n')
    .replace(/MUST, MUST NOT, SHOULD and MAY are as in BCP 14\./, '')
  // A list that a sentence leads to belongs to the sentence; any other block starts a new one.
  const blocks = prose.replace(/([^.:\s])\n\n- /g, '$1 - ').split(/\n\s*\n/)
  return blocks
    .flatMap((block) => block.replace(/([.:])\n- /g, '$1\u0000').split('\u0000'))
    .flatMap((item) =>
      item
        .trim()
        .replace(/^- /, '')
        .replace(/\s+/g, ' ')
        .split(/(?<=\.) (?=[A-Z`])/),
    )
    .filter((sentence) => sentence.includes('MUST'))
}

describe.each(PROTOCOL_NAMES)('every MUST of %s', (protocol) => {
  const entries = MUSTS[protocol] ?? {}

  it('has an entry, and no entry is left over', () => {
    expect(mustsOf(specification(protocol)).sort()).toEqual(Object.keys(entries).sort())
  })

  it('is held by vectors and tests that exist', () => {
    const names = new Set(vectorFiles(protocol).map(({ name }) => name))
    for (const [sentence, proofs] of Object.entries(entries)) {
      expect(proofs, sentence).not.toEqual([])
      for (const proof of proofs) {
        if ('vector' in proof) expect(names, sentence).toContain(proof.vector)
        else {
          const url = new URL(`../${proof.file}`, import.meta.url)
          const isThere = existsSync(url) && readFileSync(url, 'utf8').includes(proof.contains)
          expect([sentence, proof, isThere]).toEqual([sentence, proof, true])
        }
      }
    }
  })
})
