// Swagger UI over our own OpenAPI document, with the key that the page has asked for.
const withKey = (request) => {
  const key = sessionStorage.getItem("api-key");
  if (key && !request.headers.Authorization) request.headers.Authorization = `Bearer ${key}`;
  return request;
};

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  requestInterceptor: withKey,
  // The document is checked by our tests, not by somebody else's server.
  validatorUrl: null,
});
