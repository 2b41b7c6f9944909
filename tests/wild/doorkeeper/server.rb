# Debian's Doorkeeper as an authorization server on loopback. Its tables are in memory.
#
# The first line of its standard input is JSON: reuse (whether reuse_access_token is on), and clients, each with id,
# secret, lifetime_s and redirect_uri. The secret null makes a public client. Prints its port when it listens, logs a line
# `METHOD /path` for each request, and ends when its standard input closes.
require "json"
require "logger" # Active Support 6.1 needs it before it is loaded
require "rails"
require "active_record/railtie"
require "action_controller/railtie"
require "doorkeeper"
require "rack/handler/webrick"

OPTIONS = JSON.parse($stdin.gets)
CLIENTS = OPTIONS.fetch("clients").to_h { |client| [client.fetch("id"), client] }

# One connection, for each has a memory of its own. It is never closed as idle.
ENV["DATABASE_URL"] = "sqlite3::memory:?pool=1&idle_timeout=0"
ENV["RAILS_ENV"] = "production"

class AuthorizationServer < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.logger = Logger.new($stderr)
  config.log_level = :warn
  config.secret_key_base = "nothing of this server outlives its process"
  config.hosts.clear
end

class ApplicationController < ActionController::Base; end

Doorkeeper.configure do
  orm :active_record
  grant_flows %w[client_credentials authorization_code]
  client_credentials :from_basic, :from_params
  default_scopes :read
  optional_scopes :write
  enforce_configured_scopes
  reuse_access_token if OPTIONS.fetch("reuse")
  use_refresh_token
  custom_access_token_expires_in { |context| CLIENTS.fetch(context.client.uid).fetch("lifetime_s") }
  # Nobody sits in front of it: whoever asks is the one person, who has agreed.
  resource_owner_authenticator { Struct.new(:id).new(1) }
  skip_authorization { true }
  force_ssl_in_redirect_uri false
  allow_blank_redirect_uri true
end

AuthorizationServer.initialize!
ActiveRecord::Migration.verbose = false
# The tables that Doorkeeper's generator makes, without previous_refresh_token: a refresh token can be used once.
ActiveRecord::Schema.define do
  create_table :oauth_applications do |t|
    t.string :name, null: false
    t.string :uid, null: false, index: { unique: true }
    t.string :secret, null: false
    t.text :redirect_uri
    t.string :scopes, null: false, default: ""
    t.boolean :confidential, null: false, default: true
    t.timestamps
  end
  create_table :oauth_access_grants do |t|
    t.bigint :resource_owner_id, null: false
    t.references :application, null: false
    t.string :token, null: false, index: { unique: true }
    t.integer :expires_in, null: false
    t.text :redirect_uri, null: false
    t.datetime :created_at, null: false
    t.datetime :revoked_at
    t.string :scopes, null: false, default: ""
  end
  create_table :oauth_access_tokens do |t|
    t.bigint :resource_owner_id
    t.references :application
    t.string :token, null: false, index: { unique: true }
    t.string :refresh_token, index: { unique: true }
    t.integer :expires_in
    t.datetime :revoked_at
    t.datetime :created_at, null: false
    t.string :scopes
  end
end

AuthorizationServer.routes.draw do
  use_doorkeeper { skip_controllers :applications, :authorized_applications }
  # The paths of Ucommerce, whose grant is an authorization code without a browser.
  get "/api/v1/oauth/connect", to: "doorkeeper/authorizations#new"
  post "/api/v1/oauth/token", to: "doorkeeper/tokens#create"
end

CLIENTS.each_value do |client|
  Doorkeeper::Application.create!(
    name: client["id"], uid: client["id"], secret: client["secret"] || "", confidential: !client["secret"].nil?,
    redirect_uri: client["redirect_uri"]
  )
end
ActiveRecord::Base.clear_active_connections!

logged = lambda do |env|
  $stderr.puts("#{env["REQUEST_METHOD"]} #{env["PATH_INFO"]}")
  AuthorizationServer.call(env)
end
server = nil
Thread.new { $stdin.read && server&.shutdown }
trap("TERM") { exit! }
Rack::Handler::WEBrick.run(
  logged, Host: "127.0.0.1", Port: 0, AccessLog: [], Logger: WEBrick::Log.new($stderr, WEBrick::Log::WARN),
  StartCallback: -> { $stdout.puts(server.listeners.first.addr[1]); $stdout.flush }
) { |started| server = started }
