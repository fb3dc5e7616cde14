/**
 * Switches off the telemetry of ONNX Runtime. Since version 1.29 its packages for Linux and macOS keep a device id in the
 * cache folder of the user and send events about the process and its models to Microsoft, unless this variable is set when
 * the library is loaded (microsoft/onnxruntime, pull request 27379). Import this file before the library. Threads have
 * their own copy of `process.env`, which the library does not see, so the entry of the program imports this file, too.
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1'
