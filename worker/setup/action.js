/*
 * Understudy: puts a person's roles and display name into their tokens. Calls nobody, so no login waits for it.
 * Deployed by `understudy setup`, which writes the two constants; edit the setting, not this code.
 */
const NAMESPACE = "https://understudy.example/";
const DEFAULT_DISPLAY_NAME = "user";

exports.onExecutePostLogin = async (event, api) => {
  const { roles } = event.user.app_metadata || {};
  const { displayName } = event.user.user_metadata || {};
  const held = Array.isArray(roles) ? roles.filter((role) => typeof role === "string") : [];
  const name = typeof displayName === "string" ? displayName : DEFAULT_DISPLAY_NAME;
  for (const token of [api.idToken, api.accessToken]) {
    token.setCustomClaim(`${NAMESPACE}roles`, held);
    if (name) token.setCustomClaim(`${NAMESPACE}display_name`, name);
  }
};
