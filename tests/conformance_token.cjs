// Loaded by the Node that runs the conformance suite, which has no option for a token: each of its requests gets one.
require("node:diagnostics_channel")
  .channel("undici:request:create")
  .subscribe(({ request }) => request.addHeader("authorization", `Bearer ${process.env.RAWTAP_TOKEN}`));
