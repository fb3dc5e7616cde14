/**
 * Every limit that guards memory, disk, time or the network, in one table: value, unit, reason. The specifications in
 * protocols/ repeat the rows that peers must know; a test compares the two.
 */
interface Limit {
  readonly value: number
  readonly unit: 'bytes' | 'ms' | 'count' | 'seconds'
  readonly why: string
}

const KIB = 1024
const MIB = 1024 * KIB
const DAY_SECONDS = 86_400

export const LIMITS = {
  statementBytes: {
    value: 64 * KIB,
    unit: 'bytes',
    why: 'largest signed statement payload; a roster of 64 members needs about 16 KiB',
  },
  envelopeBytes: { value: 128 * KIB, unit: 'bytes', why: 'base64 payload plus 64 signatures' },
  jsonDepth: { value: 8, unit: 'count', why: 'no statement nests deeper; bounds the recursive reader' },
  signaturesPerEnvelope: { value: 64, unit: 'count', why: 'bounds verification work per envelope' },
  members: {
    value: 64,
    unit: 'count',
    why: 'members form a full mesh; bounds the memory of the connection table',
  },
  safetensorsHeaderBytes: { value: 1 * MIB, unit: 'bytes', why: 'an expert of 64 layers needs about 40 KiB' },
  tensorsPerFile: { value: 4096, unit: 'count', why: '5 tensors a layer, far above any real expert' },
  statisticsDocuments: {
    value: 64,
    unit: 'count',
    why: 'minimum number of documents that router statistics average over; one document then moves the shares by at most 1/32 in sum',
  },
  chunkBytes: { value: 1 * MIB, unit: 'bytes', why: 'unit of transfer and verification' },
  fileBytes: { value: 64 * 1024 * MIB, unit: 'bytes', why: 'largest single file that a manifest may name' },
  optionalFileBytes: {
    value: 4 * MIB,
    unit: 'bytes',
    why: 'largest generation, tokenizer or template file of a public model; those of published models have up to 1 MiB',
  },
  frameBytes: { value: 1 * MIB + 4 * KIB, unit: 'bytes', why: 'one chunk and its frame' },
  requestBytes: { value: 16 * KIB, unit: 'bytes', why: 'requests carry digests and counters only' },
  announcementBytes: { value: 4 * KIB, unit: 'bytes', why: 'a signed head names digests only' },
  digestsPerStatement: {
    value: 16,
    unit: 'count',
    why: 'packages named in one list; a head with two full lists still fits an announcement',
  },
  receiptsPerDay: {
    value: 16,
    unit: 'count',
    why: 'receipts for the withdrawals of one publisher in 24 hours, so that a member cannot fill the logs of others',
  },
  statementFrames: {
    value: 4096,
    unit: 'count',
    why: 'rosters and statements in one answer, 512 MiB at most; a member that receives this many asks again',
  },
  statementsPerPublisher: {
    value: 4096,
    unit: 'count',
    why: 'statements in one log, of which manifests may fill three quarters: a package a week for 50 years',
  },
  logBytesPerPublisher: {
    value: 16 * MIB,
    unit: 'bytes',
    why: 'envelopes in one log, of which manifests may fill three quarters; with 64 members a catalogue of 1 GiB',
  },
  addressesPerMember: {
    value: 8,
    unit: 'count',
    why: 'interfaces of one host that others may dial, and hints about one member in one hintPause',
  },
  hintPause: {
    value: 600_000,
    unit: 'ms',
    why: 'an address of a member that somebody else reports is dialled once in this time at most',
  },
  maxConnections: {
    value: 168,
    unit: 'count',
    why: 'two connections to each of 64 members, 8 guests with a proof and 32 without',
  },
  connectionsPerPeer: {
    value: 2,
    unit: 'count',
    why: 'two peers may dial each other at the same time; a third connection closes the oldest',
  },
  connectsPerMinute: {
    value: 30,
    unit: 'count',
    why: 'inbound connections of one peer; each costs a handshake and a sync',
  },
  guestConnections: {
    value: 8,
    unit: 'count',
    why: 'peers that have proved that they hold an invitation but are not members yet',
  },
  guestsPerToken: {
    value: 2,
    unit: 'count',
    why: 'guests with the same invitation: an institution that begins again with a new key',
  },
  unprovenGuests: {
    value: 32,
    unit: 'count',
    why: 'peers that have not proved an invitation yet; a newer one replaces the oldest',
  },
  unprovenGuestsPerSource: {
    value: 24,
    unit: 'count',
    why: 'at 20 strangers a second from one address, an invited peer behind it has a second for its proof',
  },
  guestProofTimeout: {
    value: 5_000,
    unit: 'ms',
    why: 'from the connection to the answer of the first request, which carries the token',
  },
  guestIdleTimeout: {
    value: 60_000,
    unit: 'ms',
    why: 'a guest that waits for its approval asks once a second',
  },
  handshakeTimeout: {
    value: 3_000,
    unit: 'ms',
    why: 'noise and multiplexer need four round trips, and one lost packet a second',
  },
  pendingPerSource: {
    value: 16,
    unit: 'count',
    why: 'unfinished handshakes from one address; a newer one replaces the oldest',
  },
  pendingFromOtherSources: {
    value: 64,
    unit: 'count',
    why: 'unfinished handshakes from all addresses at which no member is known',
  },
  pendingPerKnownSource: {
    value: 64,
    unit: 'count',
    why: 'unfinished handshakes from one address of a member: at 20 a second, each has its whole time',
  },
  pendingFromKnownSources: {
    value: 128,
    unit: 'count',
    why: 'unfinished handshakes from all addresses of members',
  },
  handshakesPerSource: {
    value: 20,
    unit: 'count',
    why: 'handshakes a second from one address, each a few ms of computing',
  },
  handshakesFromOtherSources: {
    value: 50,
    unit: 'count',
    why: 'handshakes a second from all addresses at which no member is known',
  },
  handshakesPerKnownSource: {
    value: 100,
    unit: 'count',
    why: 'handshakes a second from one address of a member, which others may share',
  },
  knownSources: { value: 256, unit: 'count', why: 'addresses from which members connected lately' },
  negotiationTimeout: { value: 2_000, unit: 'ms', why: 'choice of the protocol of a new stream' },
  streamsPerPeer: {
    value: 26,
    unit: 'count',
    why: 'streams that one peer may hold open to this node: 4 of each of 4 protocols, 2 of checkpoints, 4 of identify, ping and gossipsub, 4 that still negotiate',
  },
  streamsPerSecond: {
    value: 300,
    unit: 'count',
    why: 'streams that one peer may open in a second: the quota of blob and a third for all others',
  },
  streamsPerConnection: {
    value: 32,
    unit: 'count',
    why: 'streams that this node opens on one connection',
  },
  streamWindowBytes: {
    value: 4 * MIB,
    unit: 'bytes',
    why: 'receive window of a stream from its first byte on: 80 MiB/s at a round trip of 50 ms',
  },
  requestDataBytes: {
    value: 65 * KIB,
    unit: 'bytes',
    why: 'data in one yamux frame on a stream that its sender opened',
  },
  answerDataBytes: {
    value: 1 * MIB + 64 * KIB,
    unit: 'bytes',
    why: 'data in one yamux frame on a stream that its receiver opened: a chunk may be one frame',
  },
  smallFramesPerSecond: {
    value: 8_192,
    unit: 'count',
    why: 'yamux frames with less than 1 KiB of data; window updates of four streams at 500 MB/s are 2,000 a second',
  },
  unreadBytes: {
    value: 32 * KIB,
    unit: 'bytes',
    why: 'data that waits on a stream that nobody reads, e.g. after its request; more resets the stream',
  },
  unsentBytes: {
    value: 1 * MIB,
    unit: 'bytes',
    why: 'data that waits for the socket of a peer that reads slowly: two pieces of 256 KiB and small frames; more closes the connection',
  },
  socketBytes: {
    value: 256 * KIB,
    unit: 'bytes',
    why: 'data in the socket of one connection before its writers wait: about one piece of a frame',
  },
  requestsPerPeer: {
    value: 4,
    unit: 'count',
    why: 'requests of this node to one peer at once, as many as the peer accepts for one protocol',
  },
  chunksPerPeer: {
    value: 2,
    unit: 'count',
    why: 'chunks in memory for one peer: one that it receives and the next',
  },
  sharedChunks: {
    value: 16,
    unit: 'count',
    why: 'second chunks in memory of all peers; the first one of a peer never waits for those of others',
  },
  sentFramesPerPeer: {
    value: 4,
    unit: 'count',
    why: 'envelopes in answers in memory for one peer: as many as its requests; a frame of statements counts as two',
  },
  smallAnswers: {
    value: 20,
    unit: 'count',
    why: 'answers that this node receives at once with frames of at most envelopeBytes; others wait',
  },
  largeAnswers: {
    value: 16,
    unit: 'count',
    why: 'answers that this node receives at once with larger frames; others wait',
  },
  gossipBurstBytes: {
    value: 384 * KIB,
    unit: 'bytes',
    why: 'announcements that one peer may send at once: the heads of 64 members and their envelopes',
  },
  gossipBytesPerSecond: {
    value: 16 * KIB,
    unit: 'bytes',
    why: 'announcements and control messages of one peer in a second, after the burst',
  },
  faultsBeforeRefusal: {
    value: 20,
    unit: 'count',
    why: 'five broken frames, six impossible announcements or twenty requests beyond the quota',
  },
  faultForgottenAfter: { value: 10_000, unit: 'ms', why: 'one fault; rare faults never add up' },
  refusalTime: {
    value: 600_000,
    unit: 'ms',
    why: 'a peer with too many faults gets no connection for this time',
  },
  cborDepth: { value: 8, unit: 'count', why: 'no frame nests deeper; bounds the recursive reader' },
  cborItems: {
    value: 4_096,
    unit: 'count',
    why: 'numbers, texts, lists and maps of one frame; bounds the memory of its decoded form',
  },
  protocolInboundStreams: {
    value: 4,
    unit: 'count',
    why: 'streams of one protocol that one peer may hold open',
  },
  dialTimeout: { value: 5_000, unit: 'ms', why: 'a member on the internet answers within seconds' },
  requestTimeout: { value: 10_000, unit: 'ms', why: 'one request and its first answer' },
  chunkTimeout: { value: 30_000, unit: 'ms', why: 'one answer with statements' },
  frameTimeout: {
    value: 60_000,
    unit: 'ms',
    why: 'a chunk of 1 MiB while three requests share transferRate: 48 s',
  },
  transferRate: {
    value: 64 * KIB,
    unit: 'bytes',
    why: 'bytes per second that a provider of a file must send, over all its requests; a slower one is not worth waiting for',
  },
  transferGrace: {
    value: 5_000,
    unit: 'ms',
    why: 'time to open a stream and to read the first chunk from disk',
  },
  transferWindow: { value: 10_000, unit: 'ms', why: 'time over which transferRate is measured' },
  headLifetime: {
    value: 7 * DAY_SECONDS,
    unit: 'seconds',
    why: 'a head older than this proves nothing about today',
  },
  manifestLifetime: {
    value: 180 * DAY_SECONDS,
    unit: 'seconds',
    why: 'owners renew consent at least twice a year',
  },
  rosterLifetime: { value: 365 * DAY_SECONDS, unit: 'seconds', why: 'membership is confirmed yearly' },
  proposalLifetime: {
    value: 30 * DAY_SECONDS,
    unit: 'seconds',
    why: 'a proposal without its quorum after a month is made again, for the members of that day',
  },
  rosterWarning: {
    value: 42 * DAY_SECONDS,
    unit: 'seconds',
    why: 'time before the end of the roster from which on members are warned: collecting a quorum takes weeks',
  },
  clockSkew: { value: 300, unit: 'seconds', why: 'clocks of institutions differ by minutes at most' },
  inviteLifetime: {
    value: 7 * DAY_SECONDS,
    unit: 'seconds',
    why: 'an open invitation lets strangers reach the join protocol',
  },
  checkpointBytes: {
    value: 32 * KIB,
    unit: 'bytes',
    why: 'a checkpoint with 64 cosignatures of 260 bytes each, and with as many again of keys that were replaced',
  },
  noteSignatures: { value: 128, unit: 'count', why: 'signature lines of one note: two for each member' },
  addCheckpointBytes: {
    value: 8 * KIB,
    unit: 'bytes',
    why: 'a checkpoint with the signature of its log and a consistency proof of 63 hashes of 45 bytes',
  },
  witnessKeyBytes: {
    value: 4 * KIB,
    unit: 'bytes',
    why: 'envelope of a statement about one key, about 1 KiB',
  },
  bundleLineBytes: {
    value: 256 * KIB,
    unit: 'bytes',
    why: 'a line of an audit bundle: an envelope, whose quotes JSON escapes, or two checkpoints',
  },
  bundleBytes: {
    value: 2 * 1024 * MIB - MIB,
    unit: 'bytes',
    why: 'an audit bundle of 64 full logs with their proofs; what one array of bytes holds on every platform',
  },
  trustPolicyBytes: {
    value: 64 * KIB,
    unit: 'bytes',
    why: 'keys and groups of 64 witnesses with their comments',
  },
  delegationLifetime: {
    value: 730 * DAY_SECONDS,
    unit: 'seconds',
    why: 'an institution confirms its node key at least every two years',
  },
  keptGates: {
    value: 32,
    unit: 'count',
    why: 'most recently used gates, one for each set of experts in use',
  },
  keptGateBytes: {
    value: 64 * MIB,
    unit: 'bytes',
    why: 'all kept gates together, except the latest: requests choose the sets of experts, and a gate of 63 experts over 100,000 tokens takes 26 MB',
  },
  compositionFileBytes: { value: 64 * KIB, unit: 'bytes', why: '63 experts of at most 600 bytes each' },
  bodyBytes: { value: 1 * MIB, unit: 'bytes', why: 'largest HTTP request body' },
  httpHeaderBytes: { value: 8 * KIB, unit: 'bytes', why: 'largest HTTP header block' },
  httpHeadersTimeout: { value: 10_000, unit: 'ms', why: 'slow clients do not hold sockets' },
  httpRequestTimeout: { value: 30_000, unit: 'ms', why: 'time to receive a request' },
  httpKeepAlive: {
    value: 5_000,
    unit: 'ms',
    why: 'an idle socket waits for the next request of its client',
  },
  httpResponseTimeout: { value: 30_000, unit: 'ms', why: 'time to take the rest of a complete answer' },
  httpCheckInterval: { value: 1_000, unit: 'ms', why: 'how often the times of sockets are checked' },
  httpConnections: { value: 256, unit: 'count', why: 'sockets of the inference API' },
  httpStrangers: {
    value: 192,
    unit: 'count',
    why: 'sockets without a key; leaves 64 for clients with one, more than the node has places',
  },
  bodyDepth: {
    value: 64,
    unit: 'count',
    why: 'nested objects and lists; requests of clients nest about ten deep',
  },
  retryAfter: { value: 2, unit: 'seconds', why: 'advice to clients when the queue is full' },
  streamHeadersDelay: { value: 250, unit: 'ms', why: 'errors that occur sooner have an HTTP status' },
  streamKeepAlive: { value: 5_000, unit: 'ms', why: 'proxies and clients give up on silent connections' },
  streamBufferBytes: {
    value: 256 * KIB,
    unit: 'bytes',
    why: 'part of an answer that a slow client has not read yet',
  },
  streamStall: {
    value: 10_000,
    unit: 'ms',
    why: 'a client that reads nothing for this long loses its place',
  },
  servedStreams: {
    value: 16,
    unit: 'count',
    why: 'generations in one batch, whose keys and values make up the memory of serving',
  },
  prefixCacheBytes: { value: 64 * MIB, unit: 'bytes', why: 'keys and values of recent prompts' },
  queuedRequests: {
    value: 32,
    unit: 'count',
    why: 'generations that wait; further requests are asked to retry',
  },
  encodingTimeout: {
    value: 10_000,
    unit: 'ms',
    why: 'tokens of 1 MiB of text take about a second, a chat template some milliseconds',
  },
  renderedChatCharacters: {
    value: 4 * MIB,
    unit: 'count',
    why: 'text that a chat template may write: several times the largest body',
  },
  completionTokens: { value: 4096, unit: 'count', why: 'largest max_tokens of one request' },
  logitBiases: {
    value: 1024,
    unit: 'count',
    why: 'tokens that one request biases; each costs time at every token of the answer',
  },
  choicesPerRequest: {
    value: 128,
    unit: 'count',
    why: 'texts of one request, as many as n of the OpenAI API',
  },
  schemaCharacters: {
    value: 128 * KIB,
    unit: 'count',
    why: 'a JSON schema of a request; OpenAI allows 120,000 characters of names and values',
  },
  grammarNodes: {
    value: 65_536,
    unit: 'count',
    why: 'nodes of the automaton of a schema: a node for each character of names and listed values',
  },
  grammarDepth: {
    value: 32,
    unit: 'count',
    why: 'nested objects and lists of an answer that follows a schema',
  },
  grammarPaths: {
    value: 128,
    unit: 'count',
    why: 'ways to read an answer that are followed at once; schemas whose alternatives look alike have many',
  },
  grammarStates: { value: 4096, unit: 'count', why: 'states of an automaton that are kept, 1 to 2 KiB each' },
  grammarMasks: {
    value: 256,
    unit: 'count',
    why: 'masks of a grammar that are kept: 12 KiB each for 100,000 tokens',
  },
  toolCalls: { value: 16, unit: 'count', why: 'calls of tools in one answer' },
  tools: { value: 128, unit: 'count', why: 'tools of a request; same limit as the OpenAI API' },
  grammars: { value: 8, unit: 'count', why: 'grammars of recent requests that are kept with their masks' },
  stopSequences: { value: 4, unit: 'count', why: 'same limit as the OpenAI API' },
  apiKeys: {
    value: 64,
    unit: 'count',
    why: 'keys of the API that an operator has made; people, programs, departments',
  },
  usageDays: {
    value: 400,
    unit: 'count',
    why: 'days of which the use of the API is kept: a year and a month',
  },
  dashboardSessions: {
    value: 32,
    unit: 'count',
    why: 'people who use the dashboard of one node, and links not used yet',
  },
  dashboardLinkLifetime: { value: 600, unit: 'seconds', why: 'a link is opened soon after it was printed' },
  dashboardSessionLifetime: { value: 43_200, unit: 'seconds', why: 'a working day' },
  dashboardStreams: {
    value: 32,
    unit: 'count',
    why: 'pages that follow events; each holds a socket of the API',
  },
  dashboardEvents: {
    value: 1000,
    unit: 'count',
    why: 'latest events in memory, for pages that connect again',
  },
  dashboardJobs: { value: 16, unit: 'count', why: 'commands of pages that run or have ended lately' },
  dashboardPoints: {
    value: 1000,
    unit: 'count',
    why: 'steps of a training in a curve; a screen shows no more',
  },
  upstreamStreams: {
    value: 128,
    unit: 'count',
    why: 'answers that an upstream computes at once; half of the sockets of the API',
  },
  upstreamSilence: {
    value: 60_000,
    unit: 'ms',
    why: 'an upstream that sends nothing for this long has failed',
  },
  upstreamAnswerBytes: { value: 16 * MIB, unit: 'bytes', why: '4096 events of 4 KiB' },
  documentBytes: {
    value: 64 * MIB,
    unit: 'bytes',
    why: 'largest single document kept whole while reading a corpus',
  },
  parquetPageBytes: {
    value: 512 * MIB,
    unit: 'bytes',
    why: 'a page of a Parquet file is decoded as a whole; some writers put a whole row group into one page',
  },
  heldOutBytes: {
    value: 16 * MIB,
    unit: 'bytes',
    why: 'held-out text kept in memory while a corpus is read; 512 times the text that a score reads',
  },
  trainTokens: {
    value: 1024,
    unit: 'count',
    why: 'minimum number of tokens to train on: as many as two steps with four own rows of 128 tokens read',
  },
  sampledTrainBytes: {
    value: 16 * MIB,
    unit: 'bytes',
    why: 'own text up to this size is always turned into tokens as a whole, which takes less than a minute',
  },
  sampledTrainBytesInMemory: {
    value: 64 * MIB,
    unit: 'bytes',
    why: 'largest sample of own text, kept in memory while a corpus is read; trainings that need more use all text',
  },
  noisyTrainTokens: {
    value: 50_000,
    unit: 'count',
    why: 'with fewer tokens, 200 steps read all own text more than twice; gives a warning',
  },
  noisyHeldOutBytes: {
    value: 8 * KIB,
    unit: 'bytes',
    why: 'a score on fewer bytes rests on a few pages; gives a warning',
  },
  egressSegmentBytes: {
    value: 4 * MIB,
    unit: 'bytes',
    why: 'rows of the egress ledger in one file: about 10,000, which are read at once',
  },
  evaluatedDomains: { value: 64, unit: 'count', why: 'columns of one table that people can still read' },
  evaluatedBytes: {
    value: 128_000,
    unit: 'bytes',
    why: 'text of one domain that is scored by default: takes seconds for each way of answering',
  },
  evaluatedBytesAsked: {
    value: 64 * MIB,
    unit: 'bytes',
    why: 'maximum text of one domain on request; its tokens take at most 256 MiB of memory',
  },
} as const satisfies Record<string, Limit>

export type LimitName = keyof typeof LIMITS

export function limit(name: LimitName): number {
  return LIMITS[name].value
}
