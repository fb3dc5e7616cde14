/** Test vectors of protocols/inference-api: request bodies. */
import { parseEmbeddings } from '../../src/serving/embeddings.ts'
import { parseOllamaShow } from '../../src/serving/ollama.ts'
import { parseRequest } from '../../src/serving/openai.ts'
import { parseResponsesRequest } from '../../src/serving/responses-request.ts'
import { parseDetokenize, parseTokenize } from '../../src/serving/tokenization.ts'
import { byFileName, type Case, type Vector, type VectorSuite, vectorsOf } from './vector.ts'

const model = 'flexmesh'
const prompt = 'Article 1'
const messages = [{ role: 'user', content: 'What is a protein?' }]

/** A completion with further members. */
const completion = (more: object): object => ({ model, prompt, ...more })
/** A chat with further members. */
const chat = (more: object): object => ({ model, messages, ...more })
/** A chat whose answer follows a schema. */
const schemaOf = (schema: unknown): object =>
  chat({ response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } } })
/** A chat with a tool. */
const toolOf = (described: object, more: object = {}): object =>
  chat({ tools: [{ type: 'function', function: { name: 'find', ...described } }], ...more })
const response = (more: object): object => ({ model, input: prompt, ...more })
/** A chat with one message. */
const message = (one: unknown): object => ({ model, messages: [one] })

const COMPLETION: readonly (readonly [...Case, unknown])[] = [
  ['plain', 'accept', 'model and prompt', completion({})],
  [
    'all-fields',
    'accept',
    'everything that is supported',
    completion({
      max_tokens: 16,
      max_completion_tokens: 16,
      temperature: 0.7,
      top_p: 0.9,
      seed: 7,
      stop: ['\n'],
      stream: true,
      stream_options: { include_usage: true },
      user: 'u',
      experts: { include: ['case-law'], exclude: [] },
    }),
  ],
  [
    'expert-model',
    'accept',
    'an expert beside the public model',
    completion({ model: 'flexmesh/Alpha Court/law' }),
  ],
  ['model-number', 'bad-field', 'an id is text', completion({ model: 7 })],
  [
    'model-long',
    'bad-field',
    'longer than the names of an institution and an expert',
    completion({ model: 'm'.repeat(201) }),
  ],
  [
    'defaults',
    'accept',
    'members that ask for nothing, and null',
    completion({
      max_tokens: null,
      temperature: null,
      seed: null,
      stop: null,
      stream: null,
      stream_options: null,
      user: null,
      experts: null,
      n: 1,
      best_of: 1,
      echo: false,
      suffix: null,
      logprobs: null,
      logit_bias: {},
      presence_penalty: 0,
      frequency_penalty: 0,
      top_k: -1,
      min_p: 0,
      repetition_penalty: 1,
    }),
  ],
  ['list-of-one', 'accept', 'a list with one prompt', completion({ prompt: [prompt] })],
  ['unknown-field', 'accept', 'ignored, and named in the answer', completion({ trace: 'b7' })],
  ['no-model', 'bad-field', 'a model is named', { prompt }],
  ['no-prompt', 'bad-field', 'a prompt is text', { model }],
  ['empty-prompt', 'bad-field', 'at least one character', { model, prompt: '' }],
  ['half-character', 'bad-field', 'half of a surrogate pair', { model, prompt: 'a\ud83d' }],
  ['list-of-two', 'accept', 'two prompts', completion({ prompt: [prompt, prompt] })],
  ['list-of-texts-and-ids', 'accept', 'prompts of either kind', completion({ prompt: [prompt, [1, 2]] })],
  ['list-with-number', 'bad-field', 'a prompt is text or a list of ids', completion({ prompt: [prompt, 1] })],
  ['list-nested', 'bad-field', 'lists of prompts are flat', completion({ prompt: [[prompt]] })],
  ['list-with-empty', 'bad-field', 'at least one character', completion({ prompt: [prompt, ''] })],
  [
    'list-too-long',
    'bad-field',
    'at most 128 choices',
    completion({ prompt: Array.from({ length: 129 }, () => 'a') }),
  ],
  ['token-prompt', 'accept', 'token ids', completion({ prompt: [1, 2, 3] })],
  ['token-list-of-one', 'accept', 'a list with one list of token ids', completion({ prompt: [[1, 2, 3]] })],
  ['token-list-of-two', 'accept', 'two prompts', completion({ prompt: [[1], [2]] })],
  ['token-none', 'bad-field', 'at least one token', completion({ prompt: [] })],
  ['token-none-in-list', 'bad-field', 'at least one token', completion({ prompt: [[]] })],
  ['token-negative', 'bad-field', 'ids from 0', completion({ prompt: [1, -1] })],
  ['token-half', 'bad-field', 'whole numbers', completion({ prompt: [1, 2.5] })],
  ['token-large', 'bad-field', 'ids of 31 bits', completion({ prompt: [2 ** 31] })],
  ['token-and-text', 'bad-field', 'ids or text', completion({ prompt: [1, 'a'] })],
  ['two-answers', 'accept', 'two choices', completion({ n: 2, best_of: 2 })],
  ['no-answers', 'bad-field', 'at least one choice', completion({ n: 0 })],
  ['answers-text', 'bad-field', 'numbers of choices are numbers', completion({ n: '2' })],
  ['too-many-answers', 'bad-field', 'at most 128 choices', completion({ n: 129 })],
  [
    'too-many-answers-of-prompts',
    'bad-field',
    'at most 128 choices of all prompts together',
    completion({ n: 65, prompt: [prompt, prompt] }),
  ],
  ['best-of-two', 'bad-field', 'the server chooses none of the texts', completion({ best_of: 2 })],
  [
    'echo',
    'accept',
    'the prompt alone, with log-probabilities',
    completion({ echo: true, max_tokens: 0, logprobs: 1 }),
  ],
  ['echo-number', 'bad-field', 'true or false', completion({ echo: 1 })],
  ['suffix', 'bad-field', 'text that follows the prompt only', completion({ suffix: 'end' })],
  ['logprobs', 'accept', 'without alternatives', completion({ logprobs: 0 })],
  ['logprobs-true', 'bad-field', 'the number of alternatives', completion({ logprobs: true })],
  ['logprobs-many', 'bad-field', 'at most 20 alternatives', completion({ logprobs: 21 })],
  ['top-logprobs', 'bad-field', 'a member of chats', completion({ logprobs: 2, top_logprobs: 2 })],
  [
    'logit-bias',
    'accept',
    'a bias for each of two tokens',
    completion({ logit_bias: { '50256': -100, '7': 0.5 } }),
  ],
  ['logit-bias-list', 'bad-field', 'an object by token id', completion({ logit_bias: [[7, 1]] })],
  ['logit-bias-text', 'bad-field', 'biases are numbers', completion({ logit_bias: { '7': '1' } })],
  ['logit-bias-name', 'bad-field', 'tokens by id', completion({ logit_bias: { law: 1 } })],
  ['logit-bias-negative-id', 'bad-field', 'ids from 0', completion({ logit_bias: { '-7': 1 } })],
  ['logit-bias-large', 'bad-field', 'biases up to 100', completion({ logit_bias: { '7': 101 } })],
  ['penalties', 'accept', 'both penalties', completion({ presence_penalty: 0.5, frequency_penalty: -1.5 })],
  ['presence-penalty', 'bad-field', 'penalties up to 2', completion({ presence_penalty: 2.5 })],
  ['frequency-penalty', 'bad-field', 'penalties from -2', completion({ frequency_penalty: -2.5 })],
  ['penalty-text', 'bad-field', 'penalties are numbers', completion({ presence_penalty: '1' })],
  ['top-k', 'bad-field', 'top_p only', completion({ top_k: 40 })],
  ['stop-token', 'bad-field', 'stop sequences are texts', completion({ stop_token_ids: [2] })],
  [
    'too-many-tokens',
    'bad-field',
    'checked before anything is allocated',
    completion({ max_tokens: 1_000_000 }),
  ],
  ['no-tokens', 'bad-field', 'at least one without echo', completion({ max_tokens: 0 })],
  [
    'hidden-tokens',
    'bad-field',
    'max_tokens does not hide max_completion_tokens',
    completion({ max_tokens: 5, max_completion_tokens: 0 }),
  ],
  ['token-fraction', 'bad-field', 'whole tokens', completion({ max_tokens: 1.5 })],
  ['hot', 'bad-field', 'temperature up to 2', completion({ temperature: 3 })],
  ['cold', 'bad-field', 'temperature from 0', completion({ temperature: -1 })],
  ['top-p-zero', 'bad-field', 'nothing could be drawn', completion({ top_p: 0 })],
  ['seed-negative', 'bad-field', 'seeds from 0', completion({ seed: -1 })],
  ['five-stops', 'bad-field', 'at most four', completion({ stop: ['a', 'b', 'c', 'd', 'e'] })],
  ['empty-stop', 'bad-field', 'an empty stop would stop at once', completion({ stop: '' })],
  ['stream-text', 'bad-field', 'true or false', completion({ stream: 'yes' })],
  ['stream-options-number', 'bad-field', 'an object', completion({ stream_options: 5 })],
  [
    'include-usage-text',
    'bad-field',
    'true or false',
    completion({ stream_options: { include_usage: 'yes' } }),
  ],
  ['user-object', 'bad-field', 'text', completion({ user: {} })],
  ['experts-list', 'bad-field', 'an object with include and exclude', completion({ experts: 'all' })],
  [
    'experts-misspelled',
    'bad-field',
    'a misspelled member would use the expert',
    completion({ experts: { exlude: ['law'] } }),
  ],
  ['exclude-at-top', 'bad-field', 'experts are chosen in experts', completion({ exclude: ['law'] })],
  [
    'expert-misspelled',
    'bad-field',
    'experts are chosen in experts',
    completion({ expert: { exclude: ['law'] } }),
  ],
  ['list-body', 'bad-field', 'a JSON object', [model, prompt]],
  ['null-body', 'bad-field', 'a JSON object', null],
]

const CHAT: readonly (readonly [...Case, unknown])[] = [
  ['plain', 'accept', 'one message of a user', chat({})],
  [
    'defaults',
    'accept',
    'members that ask for nothing',
    chat({
      response_format: { type: 'text' },
      logprobs: false,
      top_logprobs: null,
      tools: [],
      tool_choice: 'none',
      parallel_tool_calls: true,
      modalities: ['text'],
      audio: null,
      store: false,
      metadata: {},
      service_tier: 'auto',
    }),
  ],
  [
    'turns',
    'accept',
    'developer, parts, names, and an empty turn of the assistant',
    {
      model,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        { role: 'user', name: 'Ann', content: [{ type: 'text', text: 'Hello' }] },
        { role: 'assistant', content: null, tool_calls: [], refusal: null },
        { role: 'user', content: '' },
      ],
    },
  ],
  ['no-messages', 'bad-field', 'at least one message', { model, messages: [] }],
  ['prompt', 'bad-field', 'messages, not a prompt', { model, prompt }],
  [
    'other-role',
    'bad-field',
    'system, developer, user or assistant',
    message({ role: 'tool', content: 'x' }),
  ],
  ['role-of-prototype', 'bad-field', 'a role by its name', message({ role: 'constructor', content: 'x' })],
  ['user-without-content', 'bad-field', 'only the assistant may say nothing', message({ role: 'user' })],
  ['text-message', 'bad-field', 'a message is an object', message('Hello')],
  [
    'image',
    'bad-field',
    'parts of text only',
    message({ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:,' } }] }),
  ],
  [
    'part-without-text',
    'bad-field',
    'a part of text has a text',
    message({ role: 'user', content: [{ type: 'text' }] }),
  ],
  [
    'tool-turns',
    'accept',
    'a call, and what the tool said',
    {
      model,
      messages: [
        { role: 'user', content: 'Find it.' },
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'find', arguments: '{}' } }],
        },
        { role: 'tool', tool_call_id: 'call_1', content: 'Article 1' },
      ],
    },
  ],
  [
    'tool-calls',
    'bad-field',
    'a call has a function',
    message({ role: 'assistant', tool_calls: [{ id: '1', type: 'function' }] }),
  ],
  [
    'tool-calls-of-user',
    'bad-field',
    'only the assistant calls tools',
    message({
      role: 'user',
      content: 'x',
      tool_calls: [{ id: '1', function: { name: 'f', arguments: '' } }],
    }),
  ],
  ['tool-without-call', 'bad-field', 'a tool answers a call', message({ role: 'tool', content: 'x' })],
  [
    'tool',
    'accept',
    'a tool with a schema',
    toolOf(
      { description: 'Finds.', parameters: { type: 'object' }, strict: true },
      { tool_choice: { type: 'function', function: { name: 'find' } }, parallel_tool_calls: false },
    ),
  ],
  ['tools', 'bad-field', 'a tool has a function', chat({ tools: [{ type: 'function' }] })],
  ['tool-of-another-type', 'bad-field', 'functions only', chat({ tools: [{ type: 'web_search' }] })],
  ['tool-name', 'bad-field', 'letters, digits, _ and -', toolOf({ name: 'find it' })],
  ['tool-parameters', 'bad-field', 'arguments are an object', toolOf({ parameters: { type: 'array' } })],
  [
    'tool-pattern',
    'bad-field',
    'a keyword that is not supported',
    toolOf({ parameters: { properties: { a: { pattern: 'x' } } } }),
  ],
  [
    'tool-twice',
    'bad-field',
    'names differ',
    chat({ tools: ['a', 'a'].map((name) => ({ type: 'function', function: { name } })) }),
  ],
  ['tool-choice', 'bad-field', 'there is no tool', chat({ tool_choice: 'required' })],
  [
    'tool-choice-unknown',
    'bad-field',
    'a tool of the request',
    toolOf({}, { tool_choice: { type: 'function', function: { name: 'go' } } }),
  ],
  ['tool-choice-word', 'bad-field', 'none, auto or required', toolOf({}, { tool_choice: 'any' })],
  ['tools-parallel-text', 'bad-field', 'true or false', toolOf({}, { parallel_tool_calls: 'no' })],
  ['json', 'accept', 'any object', chat({ response_format: { type: 'json_object' } })],
  [
    'json-schema',
    'accept',
    'an object with two members',
    schemaOf({
      type: 'object',
      properties: { a: { type: 'string', maxLength: 9 }, b: { $ref: '#/$defs/n' } },
      required: ['a', 'b'],
      additionalProperties: false,
      $defs: { n: { anyOf: [{ type: 'integer', minimum: 0 }, { type: 'null' }] } },
    }),
  ],
  [
    'json-schema-none',
    'bad-field',
    'a schema is given',
    chat({ response_format: { type: 'json_schema', json_schema: { name: 'a' } } }),
  ],
  [
    'json-schema-unnamed',
    'bad-field',
    'a schema has a name',
    chat({ response_format: { type: 'json_schema', json_schema: { schema: true } } }),
  ],
  ['json-schema-text', 'bad-field', 'a schema is an object', schemaOf('{}')],
  [
    'json-schema-pattern',
    'bad-field',
    'a keyword that is not supported',
    schemaOf({ type: 'string', pattern: 'a' }),
  ],
  [
    'json-schema-format',
    'bad-field',
    'a keyword that is not supported',
    schemaOf({ type: 'string', format: 'date' }),
  ],
  [
    'json-schema-of-nobody',
    'bad-field',
    'a keyword that nobody knows',
    schemaOf({ type: 'string', nullable: true }),
  ],
  [
    'json-schema-overlap',
    'bad-field',
    'alternatives of oneOf exclude one another',
    schemaOf({ oneOf: [{ type: 'integer' }, { type: 'number' }] }),
  ],
  [
    'json-schema-endless',
    'bad-field',
    'no finite value',
    schemaOf({ type: 'array', minItems: 1, items: { $ref: '#' } }),
  ],
  [
    'json-schema-elsewhere',
    'bad-field',
    'references within the schema',
    schemaOf({ $ref: 'https://example.org/s' }),
  ],
  [
    'format-unknown',
    'bad-field',
    'text, json_object or json_schema',
    chat({ response_format: { type: 'grammar' } }),
  ],
  ['format-text', 'bad-field', 'an object', chat({ response_format: 'json' })],
  [
    'format-member',
    'bad-field',
    'a member that nobody knows',
    chat({ response_format: { type: 'text', schema: {} } }),
  ],
  [
    'logprobs',
    'accept',
    'with alternatives, and two choices',
    chat({ logprobs: true, top_logprobs: 5, n: 2 }),
  ],
  ['top-logprobs-alone', 'bad-field', 'log-probabilities are switched on', chat({ top_logprobs: 5 })],
  ['top-logprobs-many', 'bad-field', 'at most 20 alternatives', chat({ logprobs: true, top_logprobs: 21 })],
  ['logprobs-number', 'bad-field', 'true or false', chat({ logprobs: 5 })],
  ['echo', 'bad-field', 'a member of completions', chat({ echo: true })],
  ['no-tokens', 'bad-field', 'at least one', chat({ max_tokens: 0 })],
  ['audio', 'bad-field', 'text only', chat({ modalities: ['text', 'audio'] })],
]

const RESPONSES: typeof CHAT = [
  ['text', 'accept', 'a text', response({})],
  [
    'items',
    'accept',
    'messages, a call and its output',
    response({
      input: [
        { role: 'user', content: 'Find it.' },
        {
          type: 'message',
          role: 'assistant',
          content: [{ type: 'output_text', text: 'Well.', annotations: [] }],
        },
        { type: 'reasoning', id: 'rs_1', summary: [] },
        { type: 'function_call', id: 'fc_1', call_id: 'call_1', name: 'find', arguments: '{}' },
        {
          type: 'function_call_output',
          call_id: 'call_1',
          output: [{ type: 'input_text', text: 'Article 1' }],
        },
      ],
      instructions: 'Be brief.',
      max_output_tokens: 16,
      stream: true,
      store: false,
      tools: [{ type: 'function', name: 'find', parameters: { type: 'object' }, strict: true }],
      tool_choice: { type: 'function', name: 'find' },
      metadata: { a: 'b' },
    }),
  ],
  [
    'schema',
    'accept',
    'an answer that follows a schema',
    response({ text: { format: { type: 'json_schema', name: 'a', schema: { type: 'null' } } } }),
  ],
  ['previous', 'bad-field', 'nothing is kept', response({ previous_response_id: 'resp_1' })],
  ['conversation', 'bad-field', 'nothing is kept', response({ conversation: 'conv_1' })],
  ['background', 'bad-field', 'nothing is kept', response({ background: true })],
  ['prompt', 'bad-field', 'prompts are not kept', response({ prompt: { id: 'pmpt_1' } })],
  ['no-input', 'bad-field', 'a text or items', { model }],
  ['empty-input', 'bad-field', 'at least one item', response({ input: [] })],
  [
    'unknown-item',
    'bad-field',
    'items of text and of tools',
    response({ input: [{ type: 'item_reference', id: 'msg_1' }] }),
  ],
  [
    'image',
    'bad-field',
    'parts of text only',
    response({ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }),
  ],
  [
    'output-without-call',
    'bad-field',
    'a tool answers a call',
    response({ input: [{ type: 'function_call_output', output: 'x' }] }),
  ],
  ['messages', 'bad-field', 'a member of chats', response({ messages })],
  ['two-answers', 'bad-field', 'one answer', response({ n: 2 })],
  ['web-search', 'bad-field', 'functions only', response({ tools: [{ type: 'web_search' }] })],
  [
    'schema-pattern',
    'bad-field',
    'a keyword that is not supported',
    response({ text: { format: { type: 'json_schema', name: 'a', schema: { pattern: 'a' } } } }),
  ],
  ['no-tokens', 'bad-field', 'at least one', response({ max_output_tokens: 0 })],
]

const EMBEDDINGS: typeof CHAT = [
  ['text', 'accept', 'a text', { model, input: prompt }],
  [
    'all-fields',
    'accept',
    'everything that is supported',
    {
      model,
      input: [prompt, [1, 2]],
      encoding_format: 'base64',
      dimensions: null,
      user: 'u',
      experts: { exclude: ['law'] },
    },
  ],
  ['no-input', 'bad-field', 'a text is given', { model }],
  ['empty-input', 'bad-field', 'at least one character', { model, input: '' }],
  ['empty-list', 'bad-field', 'at least one text', { model, input: [] }],
  ['input-number', 'bad-field', 'texts and lists of ids', { model, input: [[prompt]] }],
  ['dimensions', 'bad-field', 'vectors are whole', { model, input: prompt, dimensions: 8 }],
  ['format', 'bad-field', 'float or base64', { model, input: prompt, encoding_format: 'int8' }],
  ['exclude', 'bad-field', 'experts are chosen in experts', { model, input: prompt, exclude: ['law'] }],
]

const TOKENIZE: typeof CHAT = [
  ['text', 'accept', 'a text alone', { prompt }],
  ['empty', 'accept', 'an empty text', { prompt: '' }],
  [
    'all-fields',
    'accept',
    'everything that is supported',
    { model, prompt, messages: null, add_special_tokens: false, return_token_strs: true },
  ],
  [
    'chat',
    'accept',
    'a chat as it is answered',
    { model, messages, add_special_tokens: false, add_generation_prompt: true },
  ],
  ['nothing', 'bad-field', 'a prompt or messages', { model }],
  ['both', 'bad-field', 'a prompt or messages, not both', { prompt, messages }],
  ['number', 'bad-field', 'a prompt is text', { prompt: 7 }],
  ['list', 'bad-field', 'one text', { prompt: [prompt] }],
  ['half-character', 'bad-field', 'half of a surrogate pair', { prompt: 'a\ud83d' }],
  ['no-messages', 'bad-field', 'at least one message', { messages: [] }],
  [
    'message-with-name',
    'bad-field',
    'the answer could not name it as ignored',
    {
      messages: [{ role: 'user', content: 'a', name: 'b' }],
    },
  ],
  ['chat-special-tokens', 'bad-field', 'the template writes them', { messages, add_special_tokens: true }],
  [
    'chat-no-prompt',
    'bad-field',
    'the prompt for the answer is written',
    {
      messages,
      add_generation_prompt: false,
    },
  ],
  ['text-with-generation-prompt', 'bad-field', 'a text has none', { prompt, add_generation_prompt: true }],
  ['flag-number', 'bad-field', 'true or false', { prompt, return_token_strs: 1 }],
  ['model-number', 'bad-field', 'an id is text', { prompt, model: 7 }],
  ['other-member', 'bad-field', 'the answer could not name it as ignored', { prompt, truncate: 5 }],
]

const DETOKENIZE: typeof CHAT = [
  ['tokens', 'accept', 'token ids', { model, tokens: [1, 2, 3] }],
  ['no-tokens', 'accept', 'the text of no tokens is empty', { tokens: [] }],
  ['absent', 'bad-field', 'tokens are named', { model }],
  ['text', 'bad-field', 'ids, not text', { tokens: 'abc' }],
  ['negative', 'bad-field', 'ids from 0', { tokens: [-1] }],
  ['half', 'bad-field', 'whole numbers', { tokens: [0.5] }],
  ['digits', 'bad-field', 'numbers, not text', { tokens: ['1'] }],
  ['other-member', 'bad-field', 'the answer could not name it as ignored', { tokens: [1], skip: true }],
]

const SHOW: typeof CHAT = [
  ['model', 'accept', 'the id of a model', { model }],
  ['name', 'accept', 'as older clients name it', { name: model, verbose: true }],
  ['none', 'bad-field', 'a model is named', {}],
  ['number', 'bad-field', 'an id is text', { model: 7 }],
  ['empty', 'bad-field', 'at least one character', { model: '', name: model }],
  ['list', 'bad-field', 'a JSON object', [model]],
]

type Decoder = 'completion' | 'chat' | 'responses' | 'embeddings' | 'tokenize' | 'detokenize' | 'show'

const DECODERS: Readonly<Record<Decoder, (body: unknown) => unknown>> = {
  completion: (body) => parseRequest(body, 'completion', () => 0),
  chat: (body) => parseRequest(body, 'chat', () => 0),
  responses: (body) => parseResponsesRequest(body, () => 0),
  embeddings: parseEmbeddings,
  tokenize: parseTokenize,
  detokenize: parseDetokenize,
  show: parseOllamaShow,
}

function makeVectors(): Record<string, Vector> {
  const suite = (kind: Decoder, cases: typeof CHAT, section = 'Requests'): Vector[] =>
    vectorsOf(kind, `inference-api ${section}`, cases, (body) => ({ decoder: kind, body }))
  return byFileName([
    ...suite('completion', COMPLETION),
    ...suite('chat', CHAT),
    ...suite('responses', RESPONSES, 'Responses'),
    ...suite('embeddings', EMBEDDINGS, 'Embeddings'),
    ...suite('tokenize', TOKENIZE, 'Tokens'),
    ...suite('detokenize', DETOKENIZE, 'Tokens'),
    ...suite('show', SHOW, 'Clients of Ollama'),
  ])
}

function runVector(input: Readonly<Record<string, unknown>>): unknown {
  return DECODERS[input['decoder'] as Decoder](input['body'])
}

export const inferenceApi: VectorSuite = { makeVectors, runVector }
